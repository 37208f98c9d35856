"""How time and memory of `irpipe evaluate` grow: PGD on MNIST Small (Int).

Each point is a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.common import Setup
from irpipe.reports._plotting import plot_style

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


class Point(NamedTuple):
    """What one evaluation costs when an axis has `value`."""

    value: int
    seconds: float
    peak_mib: float


def measure(setup: Setup, checkpoint: Path, axis: str, value: int) -> Point:
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
    return Point(value, seconds, peak_kib / 1024)


def measure_curves(setup: Setup) -> dict[str, list[Point]]:
    """Return the points of each axis."""
    checkpoint = setup.checkpoint("mnist", "small", "int")
    return {
        axis: [measure(setup, checkpoint, axis, value) for value in values]
        for axis, values in VALUES.items()
    }


def draw(curves: dict[str, list[Point]], output: Path) -> None:
    """Draw seconds above and memory below, with one column per axis."""
    with plot_style():
        figure = Figure(figsize=(10, 4), layout="constrained")
        panels = figure.subplots(2, len(curves))
        for column, (axis, points) in enumerate(curves.items()):
            values = [point.value for point in points]
            upper, lower = panels[0, column], panels[1, column]
            _draw_panel(upper, values, [point.seconds for point in points])
            _draw_panel(lower, values, [point.peak_mib for point in points])
            if axis == "images":
                upper.loglog()
                lower.set_xscale("log")
            for panel in (upper, lower):
                _set_axes(panel, values)
            lower.set_xlabel(axis)
        panels[0, 0].set_ylabel("seconds")
        panels[1, 0].set_ylabel("peak memory, MiB")
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=130)


def _draw_panel(panel: Axes, values: list[int], costs: list[float]) -> None:
    """Draw one curve."""
    panel.plot(values, costs, "o-", color="#0072B2", markersize=4)
    panel.grid(alpha=0.25, linewidth=0.5)


def _set_axes(panel: Axes, values: list[int]) -> None:
    """Put a tick at each value, and begin at 0, on axes that are linear."""
    if panel.get_xscale() == "linear":
        panel.set_xticks(values)
    if panel.get_yscale() == "linear":
        panel.set_ylim(bottom=0)
