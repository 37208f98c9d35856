"""Seconds and memory of every job of the workflow, by what the job did."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.jobs import AFTER, BEFORE
from irpipe.reports.parts.draw import save, style


def report(results: list[Result], output: Path, *, title: str) -> list[Path]:
    """Draw a point for each job (and a bar at the median) as `output`.png, .pdf and .svg; return the paths.

    Raises IrpipeError if no result is a folder of benchmarks.
    """
    found = [result.arrays for result in results if result.attrs["attack"] == "benchmarks"]
    if not found:
        raise IrpipeError(f"{output.name}: wants the folder of Snakemake's benchmarks; found none")
    arrays = found[0]
    jobs = sorted(set(arrays["job"].tolist()), key=_place)
    with style():
        figure = Figure(figsize=(7, 1.2 + 0.3 * len(jobs)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (column, label) in zip(
            panels, {"seconds": "seconds", "memory": "peak memory, MiB"}.items(), strict=True
        ):
            _draw(panel, [arrays[column][arrays["job"] == job] for job in jobs])
            panel.set_xlabel(label)
        panels[0].set_yticks(range(len(jobs)), [f"{job} ({(arrays['job'] == job).sum()})" for job in jobs])
        panels[0].invert_yaxis()
        figure.suptitle(title, fontsize=10)
        return save(figure, output)


def _place(job: str) -> tuple[int, str]:
    for rank, known in ((0, BEFORE), (2, AFTER)):
        if job in known:
            return rank, str(known.index(job))
    return 1, job


def _draw(panel: Axes, groups: list[np.ndarray]) -> None:
    """One line of points for each group, on a logarithmic axis; jobs that were not measured have none."""
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.25, linewidth=0.5, axis="x")
    for place, group in enumerate(groups):
        known = group[np.isfinite(group) & (group > 0)]
        panel.plot(known, np.full(len(known), place), "o", color="#0072B2", alpha=0.5, markersize=4)
        if len(known):
            panel.plot([np.median(known)] * 2, [place - 0.3, place + 0.3], color="#000000", linewidth=1.5)
