"""The curves show adversarial test accuracy against eps or the number of attack steps, with one
panel for each data set and model. Hollow markers are published values.
"""

import math
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.errors import IrpipeError
from irpipe.option_types import Count
from irpipe.published import PGD_TABLES, published_table
from irpipe.reports._plotting import (
    LineStyle,
    legend_handles,
    method_styles,
    plot_style,
    save_figure,
)
from irpipe.results.accuracy import Accuracy, accuracy
from irpipe.results.labels import (
    EPS_TOLERANCE,
    DatasetModel,
    dataset_model_label,
    eps_label,
    result_name,
)
from irpipe.results.result import Result
from irpipe.results.select import select_attack

Points = list[tuple[float, Accuracy]]  # x, accuracy


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    sweep: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
) -> list[Path]:
    """Draw accuracy with its 95% Wilson band; return the paths of the figure.

    The x axis has each eps of the results at `steps` steps or, for the sweep "steps", each step
    count at the eps of training. Hollow markers show published values.

    Raises IrpipeError as `select_attack` does, and if a result has nothing to draw.
    """
    groups = select_attack(results, attack, output.name)
    colours, line_styles = method_styles([result for group in groups.values() for result in group])
    n_columns = min(len(groups), 3)
    n_rows = math.ceil(len(groups) / n_columns)
    with plot_style():
        size = (3.4 * n_columns + 1.5, 2.9 * n_rows + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        has_published = False
        for panel, (pair, group) in zip(panels, groups.items(), strict=False):
            fixed = _fixed_label(group[0], sweep, steps)
            panel.set_title(f"{dataset_model_label(pair)}, {fixed}", fontsize=9)
            for result in group:
                points = _points(result, sweep, steps)
                if not points:
                    name = result_name(result)
                    raise IrpipeError(f"{output.name}: {name} was not evaluated at {fixed}")
                attrs = result.attrs
                _draw(panel, points, colours[attrs["method"]], line_styles[attrs["run"]])
            has_published |= _draw_published(panel, pair, group, sweep, steps, colours)
            _format_axes(panel, group, sweep)
        for panel in panels[len(groups) :]:
            panel.remove()
        figure.suptitle(title, fontsize=10)
        handles = _legend_handles(colours, line_styles, has_published)
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
        return save_figure(figure, output)


def _fixed_label(result: Result, sweep: str, steps: int) -> str:
    """The step count or eps that all points of a panel have."""
    return f"{steps} steps" if sweep == "eps" else f"ε = {eps_label(result.attrs['train_eps'])}"


def _points(result: Result, sweep: str, steps: int) -> Points:
    """The accuracies of a result by rising eps or step count."""
    if sweep == "eps":
        values = [(float(eps), accuracy(result, eps, steps)) for eps in result.arrays["eps"]]
    else:
        train_eps = result.attrs["train_eps"]
        values = [
            (float(count), accuracy(result, train_eps, count)) for count in result.arrays["steps"]
        ]
    return sorted((x, measured) for x, measured in values if measured)


def _draw(panel: Axes, points: Points, colour: str, line_style: LineStyle) -> None:
    x = [x for x, _ in points]
    value, _, low, high = zip(*(measured for _, measured in points), strict=True)
    panel.plot(x, value, line_style, color=colour, linewidth=1.3)
    panel.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)


def _draw_published(
    panel: Axes,
    pair: DatasetModel,
    group: list[Result],
    sweep: str,
    steps: int,
    colours: dict[str, str],
) -> bool:
    """Mark what any PGD table of the paper prints for these networks; return whether any does."""
    train_eps = group[0].attrs["train_eps"]
    methods = {result.attrs["method"] for result in group}
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
        panel.plot(x, y, "o", markersize=5, markerfacecolor="none", markeredgecolor=colour)
    return bool(points)


def _format_axes(panel: Axes, group: list[Result], sweep: str) -> None:
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
        panel.set_xlabel("ε (\N{SCRIPT SMALL L}∞ bound, pixel range [0, 1])")


def _legend_handles(
    colours: dict[str, str], line_styles: dict[str, LineStyle], has_published: bool
) -> list[Line2D]:
    handles = legend_handles(colours, line_styles)
    if has_published:
        hollow = Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color="#444444")
        hollow.set_label("published")
        handles.append(hollow)
    return handles
