"""Curves of the bracket: a band between certified accuracy and accuracy under attack."""

from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from irpipe.analysis.bracket import Bracket, bracket
from irpipe.errors import IrpipeError
from irpipe.published import METHODS
from irpipe.reports._accuracy_axes import (
    draw_published,
    fixed_label,
    format_axes,
    published_handle,
)
from irpipe.reports._plotting import (
    COLUMN_WIDTH,
    GREY,
    TEXT_WIDTH,
    LineStyle,
    add_legend,
    add_title,
    legend_handles,
    method_styles,
)
from irpipe.results.accuracy import Accuracy, accuracy
from irpipe.results.labels import DatasetModel, dataset_model_label, result_name
from irpipe.results.result import Result

N_COLUMNS = 4
ATTACKED, CERTIFIED = "v", "^"  # markers that point at each other
HATCH = "/////"

Pair = tuple[Result, Result | None]  # result of an attack, proofs


class Panel(NamedTuple):
    """One panel: the networks of one method, data set and model, one per run."""

    pair: DatasetModel
    method: str
    networks: list[Pair]


class Point(NamedTuple):
    """A point of a curve: its place on the x axis, the accuracy under attack, the bracket."""

    x: float
    attacked: Accuracy
    bracket: Bracket | None


def draw_brackets(
    groups: dict[DatasetModel, list[Pair]], report: str, title: str, sweep: str, steps: int
) -> Figure:
    """One panel for each method, since bands of several methods would hide each other.

    A network without proofs has only the line of its accuracy under attack. Raises IrpipeError,
    which names `report`, as `bracket` does, and if a network has nothing to draw.
    """
    rows = _rows(groups)
    results = [result for networks in groups.values() for result, _ in networks]
    colours, line_styles = method_styles(results)
    n_columns = max(map(len, rows))
    width = TEXT_WIDTH if n_columns > 1 else COLUMN_WIDTH
    figure = Figure(figsize=(width, 2.0 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(len(rows), n_columns, squeeze=False, sharey=True)
    has_published = False
    for row, panels in zip(axes, rows, strict=True):
        for axis, panel in zip(row, panels, strict=False):
            group = [result for result, _ in panel.networks]
            for pair in panel.networks:
                points = _points(pair, sweep, steps, report)
                style = line_styles[pair[0].attrs["run"]]
                _draw_network(axis, points, colours[panel.method], style)
            has_published |= draw_published(axis, panel.pair, group, sweep, steps, colours)
            format_axes(axis, group, sweep)
            x_label = axis.get_xlabel() if panels is rows[-1] else ""
            axis.set_xlabel(x_label)
            axis.set_ylabel("")
            axis.tick_params(labelsize=7)
            axis.set_title(_panel_title(panel, group[0], sweep, steps))
        for axis in row[len(panels) :]:
            axis.remove()
    figure.supylabel("share of test images", fontsize=8)
    add_title(figure, title)
    handles = [*_handles(results, has_published), *legend_handles({}, line_styles)]
    add_legend(figure, handles, COLUMN_WIDTH)
    return figure


def _rows(groups: dict[DatasetModel, list[Pair]]) -> list[list[Panel]]:
    """The panels row by row. Each data set and model begins a row."""
    rows = []
    for pair, networks in groups.items():
        by_method: dict[str, list[Pair]] = {}
        for network in networks:
            by_method.setdefault(network[0].attrs["method"], []).append(network)
        panels = [Panel(pair, method, found) for method, found in by_method.items()]
        rows += [panels[i : i + N_COLUMNS] for i in range(0, len(panels), N_COLUMNS)]
    return rows


def _panel_title(panel: Panel, result: Result, sweep: str, steps: int) -> str:
    method = METHODS.get(panel.method, panel.method)
    fixed = fixed_label(result, sweep, steps) if sweep == "steps" else ""
    return f"{dataset_model_label(panel.pair)}\n" + ", ".join(filter(None, (method, fixed)))


def _points(network: Pair, sweep: str, steps: int, report: str) -> list[Point]:
    """The points of a network by rising eps or step count; where there are proofs, brackets."""
    result, proofs = network
    is_search = result.attrs["kind"] == "certify"
    counts = [int(count) for count in result.arrays["steps"]]
    if sweep == "eps":
        steps = counts[0] if is_search else steps
        cells = [(float(eps), float(eps), steps) for eps in result.arrays["eps"]]
    else:
        cells = [(float(count), result.attrs["train_eps"], count) for count in counts]
    points = []
    for x, eps, count in cells:
        attacked = accuracy(result, eps, count)
        if attacked:
            found = bracket(result, proofs, eps, count, report) if proofs else None
            points.append(Point(x, found.attacked if found else attacked, found))
    if not points:
        fixed = fixed_label(result, sweep, steps)
        raise IrpipeError(f"{report}: {result_name(result)} was not evaluated at {fixed}")
    return sorted(points, key=lambda point: point.x)


def _draw_network(axis: Axes, points: list[Point], colour: str, style: LineStyle) -> None:
    """Draw the line of attacked accuracy and, where there are proofs, the band below it."""
    x = [point.x for point in points]
    attacked = [point.attacked.value for point in points]
    axis.plot(x, attacked, style, marker=ATTACKED, markersize=4, color=colour, linewidth=1.2)
    proven = [(point.x, point.bracket) for point in points if point.bracket]
    if not proven:
        return
    x = [place for place, _ in proven]
    lower = [found.certified for _, found in proven]
    upper = [found.attacked for _, found in proven]
    certified = [share.value for share in lower]
    axis.plot(x, certified, style, marker=CERTIFIED, markersize=4, color=colour, linewidth=1.2)
    low, high = [share.low for share in lower], [share.high for share in upper]
    axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    attacked = [share.value for share in upper]
    axis.fill_between(
        x, certified, attacked, facecolor="none", edgecolor=colour, hatch=HATCH, linewidth=0
    )


def _handles(results: list[Result], has_published: bool) -> list[Artist]:
    """The entries of the legend: what the two lines and the two areas are."""
    attacks = {result.attrs["attack"] for result in results if result.attrs["kind"] != "certify"}
    found_by = " or ".join([*sorted(attacks), "the search for proofs"])
    handles: list[Artist] = [
        Line2D([], [], marker=ATTACKED, color=GREY, label=f"attacked: not broken by {found_by}"),
        Line2D([], [], marker=CERTIFIED, color=GREY, label="certified: no attack can break it"),
        Patch(facecolor="none", edgecolor=GREY, hatch=HATCH, linewidth=0, label="undecided"),
        Patch(color=GREY, alpha=0.12, linewidth=0, label="95% intervals of both ends"),
    ]
    return [*handles, published_handle()] if has_published else handles
