"""Panels of accuracy against eps or step counts: axes, published values, what is fixed."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from irpipe.analysis.claims import is_papers_attack
from irpipe.published import PGD_TABLES, published_table
from irpipe.reports._plotting import GREY
from irpipe.results.labels import (
    EPS_TOLERANCE,
    NORM_SYMBOLS,
    DatasetModel,
    counted,
    eps_label,
    eps_norm,
)
from irpipe.results.result import Result


def fixed_label(result: Result, sweep: str, steps: int) -> str:
    """The step count or eps that all points of a panel have."""
    return (
        counted(steps, "step") if sweep == "eps" else f"ε = {eps_label(result.attrs['train_eps'])}"
    )


def draw_published(
    panel: Axes,
    pair: DatasetModel,
    group: list[Result],
    sweep: str,
    steps: int,
    colours: dict[str, str],
) -> bool:
    """Mark what any PGD table of the paper prints for these networks; return whether any does.

    Only networks under the paper's PGD count, since the numbers are of no other attack.
    """
    train_eps = group[0].attrs["train_eps"]
    methods = {
        result.attrs["method"]
        for result in group
        if result.attrs["kind"] == "pgd" and is_papers_attack(result)
    }
    points = set()
    for table in PGD_TABLES:
        for key, published in published_table(table).items():
            is_shown = (key.dataset, key.model) == pair and key.method in methods
            if not is_shown or key.eps is None or key.steps is None:
                continue
            colour = colours[key.method]
            if sweep == "eps" and key.steps == steps:
                points.add((key.eps, published.value, colour))
            if sweep == "steps" and abs(key.eps - train_eps) < EPS_TOLERANCE:
                points.add((float(key.steps), published.value, colour))
    for x, y, colour in sorted(points):
        panel.plot(x, y, "o", markersize=7, markerfacecolor="none", markeredgecolor=colour)
    return bool(points)


def format_axes(panel: Axes, group: list[Result], sweep: str) -> None:
    """Set the limits, ticks and labels of a panel that shows these results."""
    panel.set_ylim(-0.02, 1.02)
    panel.set_ylabel("adversarial test accuracy")
    panel.grid(alpha=0.25, linewidth=0.5)
    if sweep == "steps":
        counts = sorted({int(count) for result in group for count in result.arrays["steps"]})
        panel.set_xscale("log")
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.set_xticks([], minor=True)
        panel.set_xlabel("steps")
    else:
        eps_values = sorted({float(eps) for result in group for eps in result.arrays["eps"]})
        panel.set_xticks(eps_values, [eps_label(eps) for eps in eps_values])
        panel.set_xlabel(f"ε ({NORM_SYMBOLS[eps_norm(group[0])]} bound, pixel range [0, 1])")


def published_handle() -> Line2D:
    """The legend's entry of published values."""
    hollow = Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color=GREY)
    hollow.set_markersize(7)
    hollow.set_label("published")
    return hollow
