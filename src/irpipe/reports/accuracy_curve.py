"""The curves show adversarial test accuracy against eps or the number of attack steps. Hollow
markers are published values. Where there are proofs, a band shows what they leave open.
"""

import math
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.errors import IrpipeError
from irpipe.option_types import Count, Names
from irpipe.reports._accuracy_axes import (
    draw_published,
    fixed_label,
    format_axes,
    published_handle,
)
from irpipe.reports._bracket_curves import draw_brackets
from irpipe.reports._plotting import (
    COLUMN_WIDTH,
    TEXT_WIDTH,
    LineStyle,
    add_legend,
    add_title,
    legend_handles,
    marker,
    method_styles,
    plot_style,
    save_figure,
)
from irpipe.results.accuracy import Accuracy, accuracy
from irpipe.results.labels import DatasetModel, dataset_model_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_with_proofs

Points = list[tuple[float, Accuracy]]  # x, accuracy


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    sweep: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
    certify: Names | None = None,
) -> list[Path]:
    """Draw accuracy with its 95% Wilson band; return the paths of the figure.

    The x axis has each eps of the results at `steps` steps or, for the sweep "steps", each step
    count at the eps of training. Hollow markers show published values.

    Without proofs, there is one panel for each data set and model. With proofs, each method has a
    panel of its own, with a band between certified accuracy and accuracy under attack. `certify`
    names the attacks whose results have proofs, and leaves out networks without; None means all of
    kind `certify`, and leaves out none.

    Raises IrpipeError as `select_with_proofs` and `bracket` do, and if a result has nothing to
    draw.
    """
    selected = select_with_proofs(results, attack, certify, output.name)
    with plot_style():
        if any(proofs for networks in selected.values() for _, proofs in networks):
            figure = draw_brackets(selected, output.name, title, sweep, steps)
        else:
            groups = {pair: [result for result, _ in selected[pair]] for pair in selected}
            figure = _draw_curves(groups, output.name, title, sweep, steps)
        return save_figure(figure, output)


def _draw_curves(
    groups: dict[DatasetModel, list[Result]], report: str, title: str, sweep: str, steps: int
) -> Figure:
    """One panel for each data set and model, with one line per network."""
    colours, line_styles = method_styles([result for group in groups.values() for result in group])
    n_columns = min(len(groups), 3)
    n_rows = math.ceil(len(groups) / n_columns)
    width = TEXT_WIDTH if n_columns > 1 else COLUMN_WIDTH
    figure = Figure(figsize=(width, 2.2 * n_rows + 0.9), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
    has_published = False
    for index, (panel, (pair, group)) in enumerate(zip(panels, groups.items(), strict=False)):
        fixed = fixed_label(group[0], sweep, steps)
        panel.set_title(f"{dataset_model_label(pair)}, {fixed}")
        for result in group:
            points = _points(result, sweep, steps)
            if not points:
                name = result_name(result)
                raise IrpipeError(f"{report}: {name} was not evaluated at {fixed}")
            attrs = result.attrs
            method = attrs["method"]
            _draw(panel, points, colours[method], marker(method), line_styles[attrs["run"]])
        has_published |= draw_published(panel, pair, group, sweep, steps, colours)
        format_axes(panel, group, sweep)
        if index % n_columns:
            panel.set_ylabel("")
    for panel in panels[len(groups) :]:
        panel.remove()
    add_title(figure, title)
    add_legend(figure, _legend_handles(colours, line_styles, has_published))
    return figure


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


def _draw(panel: Axes, points: Points, colour: str, marker: str, line_style: LineStyle) -> None:
    x = [x for x, _ in points]
    value, _, low, high = zip(*(measured for _, measured in points), strict=True)
    panel.plot(x, value, line_style, color=colour, marker=marker, linewidth=1.2)
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend_handles(
    colours: dict[str, str], line_styles: dict[str, LineStyle], has_published: bool
) -> list[Line2D]:
    handles = legend_handles(colours, line_styles)
    if has_published:
        handles.append(published_handle())
    return handles
