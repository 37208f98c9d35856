"""How time and memory of `irpipe evaluate` grow: PGD on MNIST Small (Int).

Each row is a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Row, Setup

DEFAULTS = {"images": 500, "eps": 4, "steps": 100, "cores": 1}
VALUES = {
    "images": (100, 500, 2000, 10_000),
    "eps": (1, 2, 4, 8),
    "steps": (10, 50, 100, 200),
    "cores": (1, 2),
}
# The process prints its own peak. The peak that the system counts for a child also includes the
# memory of the process that started it.
CHILD_SOURCE = """
import sys
from irpipe.cli import main
main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def measure(setup: Setup, checkpoint: Path, axis: str, value: int) -> Row:
    """Run one evaluation with `value` on `axis` and the defaults on the others."""
    counts = DEFAULTS | {axis: value}
    eps = [0.3 * (i + 1) / counts["eps"] for i in range(counts["eps"])]
    attack = {"kind": "pgd", "eps": eps, "steps": [counts["steps"]], "images": counts["images"]}
    arguments = [
        *("--checkpoint", str(checkpoint)),
        *("--data", str(setup.data)),
        *("--attack", f"pgd={json.dumps(attack)}"),
        *("--output", str(setup.scratch / "scaling.h5")),
    ]
    command = [sys.executable, "-c", CHILD_SOURCE, "evaluate", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": str(counts["cores"])}
    begin = time.perf_counter()
    run = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", check=True
    )
    seconds = time.perf_counter() - begin
    peak_kib = int(run.stdout.split()[-2])
    return {
        "grows": axis,
        "value": value,
        "seconds": seconds,
        "peak memory, MiB": round(peak_kib / 1024),
    }


def rows(setup: Setup) -> Iterator[Row]:
    """Yield one row for each value on each axis."""
    checkpoint = setup.checkpoint("mnist", "small", "int")
    for axis, values in VALUES.items():
        for value in values:
            yield measure(setup, checkpoint, axis, value)
