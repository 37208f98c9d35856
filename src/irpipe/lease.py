"""One GPU for each process on this machine: leased by a lock on a file, given back however the process ends.

Snakemake counts GPUs but names none, so all its jobs would land on the first (cluster.md, 2.9). The workflow sets
IRPIPE_LEASE, and each job then takes a device of its own among those it may see. Devices are known by their UUIDs, so
the same holds inside a Slurm job, where the first device of two jobs may be two devices.
"""

import fcntl
import functools
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

PAUSE = 0.5  # seconds between two looks at devices that are all taken
_held: list[TextIO] = []  # open, and so locked, until the process ends


@functools.cache
def lease(devices: tuple[str, ...]) -> int:
    """Index of the first of these devices (by UUID) that no other process leases; waits while all are taken.

    The locks lie in one folder per user, in the machine's folder for temporary files.
    """
    folder = Path(tempfile.gettempdir()) / f"irpipe-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while True:
        for index, device in enumerate(devices):
            lock = (folder / device).open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
            else:
                _held.append(lock)
                return index
        if not told:
            print(f"waiting for a GPU: other processes lease all {len(devices)}", file=sys.stderr, flush=True)
        told = True
        time.sleep(PAUSE)


def missing() -> str | None:
    """Why jobs on this machine compute on the CPU, in words; None if they can use a GPU. Does not import torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "CUDA_VISIBLE_DEVICES is empty"
    if not any(list(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "dxg", "kfd")):
        return "this machine has no GPU"
    if version("torch").endswith("+cpu"):
        return "this torch is built for the CPU alone"
    return None
