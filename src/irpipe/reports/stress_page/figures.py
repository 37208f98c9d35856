"""The plots of a page of `irpipe stress`, as SVG whose colours follow the page's theme."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.analysis.claims import is_papers_attack
from irpipe.published import METHODS, MODELS, PGD_TABLES, published_table
from irpipe.reports._plotting import LINE_STYLES, figure_svg, plot_style
from irpipe.reports.stress_page.against import OtherNetwork, is_same_attack
from irpipe.reports.stress_page.numbers import StressNumbers, accuracies, tau_at
from irpipe.results.labels import EPS_TOLERANCE, NORM_SYMBOLS, eps_label
from irpipe.results.result import Result

# Matplotlib draws in these colours, and the page's style sheet replaces them (`_themed`).
INK = "#0a0b00"
GRID = "#0a0b01"
SERIES = tuple(f"#0a0b1{digit}" for digit in range(8))
MARKERS = "osD^vPX*"
CSS_VARIABLES = {INK: "--ink", GRID: "--grid"} | {
    colour: f"--series-{i}" for i, colour in enumerate(SERIES)
}
SIZE = (5.2, 4.1)  # inches; on a phone the letters are then as large as the page's
Point = tuple[float, float, float, float]  # eps, value, and its interval
PAPER_STEPS = 200  # of the paper's PGD


class PagePlot(NamedTuple):
    """A plot with its title, a caption, and the names of the results that it shows."""

    name: str
    title: str
    svg: Markup
    caption: str
    attacks: Sequence[str]


class Curve(NamedTuple):
    """Points `(eps, value, low, high)` by rising eps, and how they are drawn.

    A published curve is thin, its markers are hollow, and it has no band.
    """

    label: str
    points: Sequence[Point]
    colour: str = INK
    marker: str = "o"
    line_style: str = "-"
    is_published: bool = False


def make_plots(
    results: Sequence[Result], numbers: StressNumbers, others: Sequence[OtherNetwork] = ()
) -> list[PagePlot]:
    """The plots that the results of one network give; the eps of the verdict is marked in each.

    Each attack of `others` stands next to the same attack on this network, in its colour.
    """
    on_maps = [result for result in results if "kendall_tau" in result.arrays]
    on_prediction = [result for result in results if "kendall_tau" not in result.arrays]
    plots = []
    for name, group, title in (
        ("accuracy", on_prediction, "Accuracy under each attack"),
        ("accuracy_maps", on_maps, "Accuracy under attacks on maps"),
    ):
        if group:
            caption = "Bands: 95% Wilson intervals. Dashed: guessing. Dotted: the verdict's ε."
            curves = _curves(group, others, _accuracy_points)
            plots.append(_plot(name, title, caption, group, _draw_curves(curves, numbers)))
    reference = _reference_plot(results, numbers, others)
    if reference:
        plots.insert(1, reference)
    if on_maps:
        caption = (
            "Mean over all images; lost images, whose prediction the attack changed or whose map "
            "is constant, are counted as 0. Bands: 95% bootstrap intervals."
        )
        draw = _draw_curves(_curves(on_maps, others, _tau_points), numbers, "Kendall's tau")
        plots.append(_plot("tau", "What is left of the maps", caption, on_maps, draw))
    return plots


def _curves(
    group: Sequence[Result],
    others: Sequence[OtherNetwork],
    points_of: Callable[[Result], list[Point]],
) -> list[Curve]:
    """One curve per attack, and one for the same attack on each other network."""
    curves = []
    for i, result in enumerate(group):
        attack = str(result.attrs["attack"])
        colour, marker = SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]
        curves.append(Curve(attack, points_of(result), colour, marker))
        for k, other in enumerate(others):
            line_style = LINE_STYLES[1 + k % (len(LINE_STYLES) - 1)]
            curves += [
                Curve(f"{attack}, {other.name}", points_of(second), colour, marker, line_style)
                for second in other.results
                if is_same_attack(result, second)
            ]
    return curves


def _accuracy_points(result: Result) -> list[Point]:
    return [
        (eps, measured.value, measured.low, measured.high) for eps, measured in accuracies(result)
    ]


def _tau_points(result: Result) -> list[Point]:
    points = []
    for eps in sorted(float(eps) for eps in result.arrays["eps"]):
        tau = tau_at(result, eps)
        if tau:
            points.append((eps, tau.value_all, tau.low_all, tau.high_all))
    return points


def published_curves(result: Result) -> list[Curve]:
    """The paper's networks under its attack, at those eps of a result that the paper has.

    None, unless the result is of the paper's attack on a data set of the paper. A network of
    another model than the paper's is compared with those of Small.
    """
    attrs = result.attrs
    dataset = attrs["checkpoint_metadata"]["data"]["kind"]
    steps = result.arrays["steps"]
    if attrs["kind"] != "pgd" or not is_papers_attack(result) or PAPER_STEPS not in steps:
        return []
    model = attrs["model"] if attrs["model"] in MODELS else "small"
    points: dict[str, dict[float, float]] = {method: {} for method in METHODS}
    for table in PGD_TABLES:
        for key, published in published_table(table).items():
            if (key.dataset, key.model, key.steps) != (dataset, model, PAPER_STEPS):
                continue
            distances = np.abs(result.arrays["eps"] - key.eps)
            if key.eps is not None and distances.min() <= EPS_TOLERANCE:
                points[key.method][key.eps] = published.value
    return [
        Curve(
            METHODS[method],
            [(x, y, y, y) for x, y in sorted(values.items())],
            SERIES[i],
            MARKERS[i],
            is_published=True,
        )
        for i, (method, values) in enumerate(points.items())
        if values
    ]


def _reference_plot(
    results: Sequence[Result], numbers: StressNumbers, others: Sequence[OtherNetwork]
) -> PagePlot | None:
    """This network under the paper's PGD, with the values that the paper prints for its own."""
    for result in results:
        references = published_curves(result)
        if references:
            own, *of_others = _curves([result], others, _accuracy_points)
            measured = [own._replace(label="this network", colour=INK, marker="o")]
            for curve in of_others:
                name = curve.label.partition(", ")[2]
                measured.append(curve._replace(label=name, colour=INK, marker="o"))
            draw = _draw_curves([*measured, *references], numbers)
            caption = (
                f"Lines with hollow markers: what the paper prints for its networks under this "
                f"attack, PGD with {PAPER_STEPS} steps (tables {', '.join(PGD_TABLES)}). "
                "Black or white: measured here, with its 95% band."
            )
            title = "Next to the paper's networks"
            return _plot("reference", title, caption, [result], draw)
    return None


def _draw_curves(
    curves: Sequence[Curve], numbers: StressNumbers, y_label: str = "accuracy"
) -> Callable[[Axes], None]:
    """Return a function that draws curves with their bands, and lines at eps and, if the curves
    are accuracies, at chance.
    """

    def draw(panel: Axes) -> None:
        """Draw the curves, their labels and the lines."""
        for curve in curves:
            x, value, low, high = np.array(curve.points).T
            panel.plot(
                x,
                value,
                color=curve.colour,
                linestyle=curve.line_style,
                linewidth=0.9 if curve.is_published else 1.8,
                marker=curve.marker,
                markersize=5,
                markerfacecolor="none" if curve.is_published else curve.colour,
                label=curve.label,
            )
            if not curve.is_published:
                panel.fill_between(x, low, high, color=curve.colour, alpha=0.13, linewidth=0)
        panel.axvline(numbers.eps, color=INK, linestyle=":", linewidth=1)
        if y_label == "accuracy":
            panel.axhline(numbers.chance, color=INK, linestyle="--", linewidth=0.7)
            panel.set_ylim(-0.02, 1.02)
        panel.yaxis.set_major_formatter("{x:g}")
        _format_eps_axis(panel, curves)
        panel.set_xlabel(f"ε ({NORM_SYMBOLS[numbers.norm]} bound, pixels in [0, 1])")
        panel.set_ylabel(y_label)

    return draw


def _format_eps_axis(panel: Axes, curves: Sequence[Curve]) -> None:
    """Mark the eps of all curves; where many lie close together, only some of them."""
    values = sorted({point[0] for curve in curves for point in curve.points})
    shown: list[float] = []
    for value in values:
        if not shown or value - shown[-1] > 0.08 * (values[-1] - values[0]):
            shown.append(value)
    panel.set_xticks(shown, [eps_label(value) for value in shown])


def _plot(
    name: str,
    title: str,
    caption: str,
    results: Sequence[Result],
    draw: Callable[[Axes], None],
) -> PagePlot:
    """Draw one panel with its legend below."""
    colours = dict.fromkeys(
        ("text_color", "axes_labelcolor", "axes_edgecolor", "xtick_color", "ytick_color"), INK
    )
    with plot_style(svg_fonttype="none", font_size=10, **colours):
        figure = Figure(figsize=SIZE, layout="constrained")
        panel = figure.subplots()
        panel.grid(color=GRID, linewidth=0.7)
        panel.set_axisbelow(True)
        draw(panel)
        longest = max(len(text) for text in panel.get_legend_handles_labels()[1])
        n_columns = 3 if longest < 18 else 2 if longest < 28 else 1
        figure.legend(
            loc="outside lower center", ncols=n_columns, frameon=False, fontsize=9, handlelength=3
        )
        svg = _themed(figure_svg(figure), name, title)
    attacks = [str(result.attrs["attack"]) for result in results]
    return PagePlot(name, title, svg, caption, attacks)


def _themed(svg: str, name: str, title: str) -> Markup:
    """Make the colours those of the page, the identifiers unique in it, and give it a name."""
    for colour, variable in CSS_VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size
    head = f'<svg role="img" aria-label="{title}" viewBox="{size[0][9:-1]}">'
    return Markup(re.sub(r"^<svg[^>]*>", head, svg, count=1))
