"""How the time and memory of `irpipe evaluate` grow: PGD on MNIST Small (Int), each point a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.common import Setup
from irpipe.reports.parts.draw import style

BASE = {"images": 500, "radii": 4, "steps": 100, "cores": 1}
VALUES = {"images": (100, 500, 2000, 10_000), "radii": (1, 2, 4, 8), "steps": (10, 50, 100, 200), "cores": (1, 2)}
# prints the peak of this program alone: what the system counts for a process includes the one it was split off from
CHILD = """
import sys
from irpipe.cli import main
main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
Point = tuple[float, float]  # seconds, MiB


def measure(setup: Setup, path: Path, images: int, radii: int, steps: int, cores: int) -> Point:
    """Seconds and peak resident memory in MiB of one evaluation."""
    eps = [0.3 * (place + 1) / radii for place in range(radii)]
    spec = json.dumps({"kind": "pgd", "eps": eps, "steps": [steps], "images": images})
    arguments = ["evaluate", "--checkpoint", str(path), "--data", str(setup.data), "--attack", f"pgd={spec}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
    command = [sys.executable, "-c", CHILD, *arguments, "--output", str(setup.scratch / "scaling.h5")]
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, int(done.stdout.split()[-2]) / 1024


def curves(setup: Setup) -> dict[str, list[tuple[int, Point]]]:
    """For each thing that grows, the others at their base: its values with what they cost."""
    path = setup.checkpoint("mnist", "small", "int")
    return {
        name: [(value, measure(setup, path, **(BASE | {name: value}))) for value in values]
        for name, values in VALUES.items()
    }


def draw(found: dict[str, list[tuple[int, Point]]], output: Path) -> None:
    """Seconds above, memory below, a column for each thing that grows."""
    with style():
        figure = Figure(figsize=(10, 4), layout="constrained")
        panels = figure.subplots(2, len(found))
        for column, (name, points) in enumerate(found.items()):
            values = [value for value, _ in points]
            for row, label in enumerate(("seconds", "peak memory, MiB")):
                panel = panels[row, column]
                panel.plot(values, [point[row] for _, point in points], "o-", color="#0072B2", markersize=4)
                if (name, row) == ("images", 0):
                    panel.loglog()
                elif name == "images":
                    panel.set_xscale("log")
                else:
                    panel.set_xticks(values)
                if panel.get_yscale() == "linear":
                    panel.set_ylim(bottom=0)
                panel.grid(alpha=0.25, linewidth=0.5)
                if column == 0:
                    panel.set_ylabel(label)
            panels[1, column].set_xlabel(name)
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=130)
