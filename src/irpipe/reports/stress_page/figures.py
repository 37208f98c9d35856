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
from irpipe.reports._plotting import figure_svg, plot_style
from irpipe.reports.stress_page.numbers import accuracies, tau_at
from irpipe.results.labels import EPS_TOLERANCE, eps_label
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
PAPER_STEPS = 200  # of the paper's PGD
EPS_AXIS = "ε (\N{SCRIPT SMALL L}∞ bound, pixels in [0, 1])"


class PagePlot(NamedTuple):
    """A plot with its title, a caption, and the names of the results that it shows."""

    name: str
    title: str
    svg: Markup
    caption: str
    attacks: Sequence[str]


class Curve(NamedTuple):
    """Points `(eps, value, low, high)` by rising eps, under a label."""

    label: str
    points: Sequence[tuple[float, float, float, float]]


def make_plots(results: Sequence[Result], eps: float, chance: float) -> list[PagePlot]:
    """The plots that the results of one network give; `eps` is marked in each."""
    on_maps = [result for result in results if "kendall_tau" in result.arrays]
    others = [result for result in results if "kendall_tau" not in result.arrays]
    plots = []
    for name, group, title in (
        ("accuracy", others, "Accuracy under each attack"),
        ("accuracy_maps", on_maps, "Accuracy under attacks on maps"),
    ):
        if group:
            caption = "Bands: 95% Wilson intervals. Dashed: guessing. Dotted: the verdict's ε."
            curves = [_accuracy_curve(result) for result in group]
            plots.append(_plot(name, title, caption, group, _draw_curves(curves, eps, chance)))
    reference = _reference_plot(results, eps, chance)
    if reference:
        plots.insert(1, reference)
    if on_maps:
        caption = (
            "Mean over all images; lost images, whose prediction the attack changed or whose map "
            "is constant, are counted as 0. Bands: 95% bootstrap intervals."
        )
        draw = _draw_curves([_tau_curve(result) for result in on_maps], eps, None, "Kendall's tau")
        plots.append(_plot("tau", "What is left of the maps", caption, on_maps, draw))
    return plots


def _accuracy_curve(result: Result) -> Curve:
    points = [
        (eps, measured.value, measured.low, measured.high) for eps, measured in accuracies(result)
    ]
    return Curve(str(result.attrs["attack"]), points)


def _tau_curve(result: Result) -> Curve:
    points = []
    for eps in sorted(float(eps) for eps in result.arrays["eps"]):
        tau = tau_at(result, eps)
        if tau:
            points.append((eps, tau.value_all, tau.low_all, tau.high_all))
    return Curve(str(result.attrs["attack"]), points)


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
        Curve(METHODS[method], [(x, y, y, y) for x, y in sorted(values.items())])
        for method, values in points.items()
        if values
    ]


def _reference_plot(results: Sequence[Result], eps: float, chance: float) -> PagePlot | None:
    """This network under the paper's PGD, with the values that the paper prints for its own."""
    for result in results:
        references = published_curves(result)
        if references:
            own = _accuracy_curve(result)._replace(label="this network")
            draw = _draw_curves([own, *references], eps, chance, is_first_own=True)
            caption = (
                f"Lines with hollow markers: what the paper prints for its networks under this "
                f"attack, PGD with {PAPER_STEPS} steps (tables {', '.join(PGD_TABLES)}). "
                "Black or white: measured here, with its 95% band."
            )
            title = "Next to the paper's networks"
            return _plot("reference", title, caption, [result], draw)
    return None


def _draw_curves(
    curves: Sequence[Curve],
    eps: float,
    chance: float | None,
    y_label: str = "accuracy",
    is_first_own: bool = False,
) -> Callable[[Axes], None]:
    """Return a function that draws curves with their bands, and lines at eps and at chance."""

    def draw(panel: Axes) -> None:
        for i, curve in enumerate(curves):
            is_own = is_first_own and i == 0
            is_reference = is_first_own and i > 0
            index = i - 1 if is_reference else i
            colour = INK if is_own else SERIES[index % len(SERIES)]
            x, value, low, high = np.array(curve.points).T
            panel.plot(
                x,
                value,
                color=colour,
                marker=MARKERS[index % len(MARKERS)] if not is_own else "o",
                markersize=5,
                markerfacecolor="none" if is_reference else colour,
                linewidth=0.9 if is_reference else 2.2 if is_own else 1.6,
                label=curve.label,
            )
            if not is_reference:
                panel.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        panel.axvline(eps, color=INK, linestyle=":", linewidth=1)
        if chance is not None:
            panel.axhline(chance, color=INK, linestyle="--", linewidth=0.7)
            panel.set_ylim(-0.02, 1.02)
        panel.yaxis.set_major_formatter("{x:g}")
        _format_eps_axis(panel, curves)
        panel.set_ylabel(y_label)

    return draw


def _format_eps_axis(panel: Axes, curves: Sequence[Curve]) -> None:
    """Label the eps of all curves; where many lie close together, only some of them."""
    values = sorted({point[0] for curve in curves for point in curve.points})
    shown: list[float] = []
    for value in values:
        if not shown or value - shown[-1] > 0.08 * (values[-1] - values[0]):
            shown.append(value)
    panel.set_xticks(shown, [eps_label(value) for value in shown])
    panel.set_xlabel(EPS_AXIS)


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
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
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
