"""A GPU, or a place on one, for each process on this machine, by a lock on a file.

Snakemake counts GPUs but names none, so all its jobs would use the first one (S.3). The workflow
sets IRPIPE_LOCK_GPU, and each job then locks one of the GPUs that it sees. Small networks leave
most of a GPU idle; IRPIPE_JOBS_PER_GPU lets several jobs share each.
"""

import functools
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from irpipe.errors import IrpipeError

POLL_SECONDS = 0.5  # between two attempts while other processes hold all GPUs
# The process holds these locks until it ends. The system then frees them, however it ends.
_held_locks: list[BaseFileLock] = []


@functools.cache
def lock_gpu(uuids: tuple[str, ...]) -> int:
    """Lock the first of these GPUs that the fewest other processes hold, and return its index.

    A GPU has IRPIPE_JOBS_PER_GPU places, 1 if that is not set. Waits while all are taken. GPUs
    are known by their UUIDs, because the first GPU that one Slurm job sees may not be the first
    that another sees. The lock files lie in one folder per user, in the machine's folder for
    temporary files.

    Raises IrpipeError if that folder cannot be used, if its file system has no locks and there is
    more than one GPU to choose from, or if IRPIPE_JOBS_PER_GPU is no number of jobs.
    """
    n_places = _jobs_per_gpu()
    folder = Path(tempfile.gettempdir()) / f"irpipe-gpus-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return _wait_for_lock(folder, uuids, n_places)
    except OSError as error:
        reason = f"{folder}: no file can be locked there ({error.strerror or error})"
        if len(uuids) > 1:
            message = (
                f"{reason}, so jobs cannot share {len(uuids)} GPUs; set TMPDIR to a local disk"
            )
            raise IrpipeError(message) from error
    print(f"{reason}; this job takes the only GPU", file=sys.stderr, flush=True)
    return 0


def _jobs_per_gpu() -> int:
    text = os.environ.get("IRPIPE_JOBS_PER_GPU") or "1"
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise IrpipeError(f"IRPIPE_JOBS_PER_GPU: {text!r}, but it is a number of jobs, at least 1")
    return int(text)


def _wait_for_lock(folder: Path, uuids: tuple[str, ...], n_places: int) -> int:
    """Lock one of the files of a GPU in `folder`, once one is free; return the GPU's index."""
    has_warned = False
    while True:
        for place in range(n_places):
            for index, uuid in enumerate(uuids):
                if _lock(folder / (f"{uuid}.{place}" if place else uuid)):
                    return index
        if not has_warned:
            message = f"waiting for a GPU: other processes hold all {len(uuids)}"
            print(message, file=sys.stderr, flush=True)
            has_warned = True
        time.sleep(POLL_SECONDS)


def _lock(path: Path) -> bool:
    """Lock a file until this process ends; return False if another process holds the lock."""
    # The fallback of filelock for file systems without flock would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    _held_locks.append(lock)
    return True


def why_no_gpu() -> str | None:
    """Say why jobs on this machine compute on the CPU; None if they can use a GPU.

    Does not import torch, which would cost every start of the workflow seconds.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "CUDA_VISIBLE_DEVICES is empty"
    if not any(list(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "dxg", "kfd")):
        return "this machine has no GPU"
    if version("torch").endswith("+cpu"):
        return "this torch is built for the CPU alone"
    return None
