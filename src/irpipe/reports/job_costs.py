"""The figure shows the seconds and the peak memory of every job of the workflow, by what it did."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.reports._plotting import (
    GREY,
    TEXT_WIDTH,
    add_title,
    plot_style,
    save_figure,
    use_log_scale,
)
from irpipe.results.job_costs import JOBS_AFTER_ATTACKS, JOBS_BEFORE_ATTACKS
from irpipe.results.result import Result

AXIS_LABELS = {"seconds": "seconds", "memory": "peak memory, MiB"}


def report(results: list[Result], output: Path, *, title: str) -> list[Path]:
    """Draw one point per job and a bar at the median; return the paths of the figure.

    Raises IrpipeError if no result has the costs of jobs.
    """
    costs = [result.arrays for result in results if result.attrs["attack"] == "job_costs"]
    if not costs:
        raise IrpipeError(
            f"{output.name}: expected the folder of Snakemake's benchmark files; found none"
        )
    arrays = costs[0]
    jobs = sorted(set(arrays["job"].tolist()), key=_order)
    with plot_style():
        figure = Figure(figsize=(TEXT_WIDTH, 1.2 + 0.3 * len(jobs)), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (name, label) in zip(panels, AXIS_LABELS.items(), strict=True):
            _draw(panel, [arrays[name][arrays["job"] == job] for job in jobs])
            panel.set_xlabel(label)
        if not jobs:
            panels[0].set_title("no benchmark files of Snakemake", fontsize=9)
        labels = [f"{job} ({(arrays['job'] == job).sum()})" for job in jobs]
        panels[0].set_yticks(range(len(jobs)), labels)
        panels[0].invert_yaxis()
        add_title(figure, title)
        return save_figure(figure, output)


def _order(job: str) -> tuple[int, int, str]:
    """Sort key: jobs before the attacks, the attacks by alphabet, jobs after them."""
    if job in JOBS_BEFORE_ATTACKS:
        return 0, JOBS_BEFORE_ATTACKS.index(job), job
    if job in JOBS_AFTER_ATTACKS:
        return 2, JOBS_AFTER_ATTACKS.index(job), job
    return 1, 0, job


def _draw(panel: Axes, groups: list[np.ndarray]) -> None:
    """Draw one line of points per group, on a logarithmic axis. NaN means not measured."""
    use_log_scale(panel, "x")
    panel.grid(alpha=0.25, linewidth=0.5, axis="x")
    for y, group in enumerate(groups):
        measured = group[np.isfinite(group) & (group > 0)]
        if not len(measured):
            continue
        panel.plot(measured, np.full(len(measured), y), "o", color=GREY, alpha=0.5, markersize=4)
        median = float(np.median(measured))
        panel.plot([median, median], [y - 0.3, y + 0.3], color="#000000", linewidth=1.5)
