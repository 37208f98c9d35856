"""Colours and markers of methods, line styles of runs, sizes, titles, legends, and saving."""

import io
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from irpipe.files import atomic_write
from irpipe.published import METHODS, order_of
from irpipe.results.result import Result

# Okabe and Ito's palette, which colour-blind readers can distinguish. Grey replaces its yellow,
# which is too pale for a line.
COLOURS = {
    "normal": "#999999",
    "adv": "#0072B2",
    "trades": "#56B4E9",
    "ig_norm": "#CC79A7",
    "ig_sum_norm": "#E69F00",
    "int_one_class": "#000000",
    "int": "#D55E00",
    "int_adv": "#009E73",
}
# Colours of other methods: Paul Tol's muted scheme.
MORE_COLOURS = ("#882255", "#117733", "#999933", "#332288")
# Markers distinguish methods in grey.
MARKERS = {
    "normal": "o",
    "adv": "s",
    "trades": "D",
    "ig_norm": "v",
    "ig_sum_norm": "<",
    "int_one_class": "P",
    "int": "^",
    "int_adv": "X",
}
OTHER_MARKER = "d"
# Inches: a column of a paper and its text's width. There, figures have letters of 8 points.
COLUMN_WIDTH = 3.4
TEXT_WIDTH = 7.0
GREY = "#444444"
LineStyle = Literal["-", "--", ":", "-."]
LINE_STYLES: tuple[LineStyle, ...] = ("-", "--", ":", "-.")
# Metadata of each format. None leaves out what changes from one file to the next.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def plot_style(**more: Any) -> AbstractContextManager[None]:
    """The settings under which a figure is drawn and saved, so that its bytes repeat.

    `more` are further settings of matplotlib, with "_" in place of ".".
    """
    settings = {
        "svg.hashsalt": "irpipe",
        "figure.dpi": 150,
        "font.size": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.markersize": 4,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.parse_math": False,  # a $ in a title is a dollar sign
    }
    settings |= {name.replace("_", ".", 1): value for name, value in more.items()}
    return matplotlib.rc_context(cast(Any, settings))


def method_styles(results: list[Result]) -> tuple[dict[str, str], dict[str, LineStyle]]:
    """Colours of methods and line styles of runs, in the order of a legend."""
    methods = {str(result.attrs["method"]) for result in results}
    ordered_methods = sorted(methods, key=lambda method: order_of(METHODS, method))
    other_methods = [method for method in ordered_methods if method not in COLOURS]
    colours = {
        method: MORE_COLOURS[i % len(MORE_COLOURS)] for i, method in enumerate(other_methods)
    }
    colours |= COLOURS
    runs = {str(result.attrs["run"]) for result in results}
    ordered_runs = sorted(runs, key=lambda run: (run != "released", len(run), run))
    return (
        {method: colours[method] for method in ordered_methods},
        {run: LINE_STYLES[i % len(LINE_STYLES)] for i, run in enumerate(ordered_runs)},
    )


def legend_handles(colours: dict[str, str], line_styles: dict[str, LineStyle]) -> list[Line2D]:
    """One entry per method and, if there are several runs, one line per run in its style."""
    methods = [
        Line2D([], [], color=colour, marker=marker(method), label=METHODS.get(method, method))
        for method, colour in colours.items()
    ]
    runs = [
        Line2D([], [], color=GREY, linestyle=line_style, label=run)
        for run, line_style in line_styles.items()
    ]
    return methods + (runs if len(runs) > 1 else [])


def marker(method: str) -> str:
    """The marker of a method, the same in all figures."""
    return MARKERS.get(method, OTHER_MARKER)


def add_title(figure: Figure, title: str) -> None:
    """Write the title above the figure, in as many lines as its width needs."""
    n_letters = round(14 * figure.get_figwidth())
    figure.suptitle(textwrap.fill(title, n_letters), fontsize=9)


def add_legend(figure: Figure, handles: Sequence[Artist], column_width: float = 1.1) -> None:
    """Write the legend below the panels, in columns of so many inches."""
    n_columns = max(1, int(figure.get_figwidth() / column_width))
    figure.legend(handles=handles, loc="outside lower center", ncols=n_columns)


def use_log_scale(panel: Axes, axis_name: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks: 0.3, 1, 3, ..."""
    panel.set(**{f"{axis_name}scale": "log"})
    axis = panel.xaxis if axis_name == "x" else panel.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def save_figure(figure: Figure, output: Path) -> list[Path]:
    """Write a figure as `output`.png, .pdf and .svg, each atomically; return the three paths.

    Call it under `plot_style`. Equal figures give equal bytes.
    """
    _fix_layout(figure)
    paths = []
    for file_format, metadata in METADATA.items():
        path = output.with_name(f"{output.name}.{file_format}")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=file_format, metadata=metadata)
        paths.append(path)
    return paths


def figure_svg(figure: Figure) -> str:
    """A figure as the text of an <svg> element, to stand in an HTML page. Call under `plot_style`.

    Equal figures give equal texts.
    """
    _fix_layout(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=METADATA["svg"], transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _fix_layout(figure: Figure) -> None:
    """Lay out a figure and round all positions, whose last bits differ from run to run.

    The solver of the constrained layout sorts its variables by their addresses.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for subfigure in figure.subfigs:
        subfigure.bbox_relative.set(_rounded(subfigure.bbox_relative))
    for axes in figure.axes:
        axes.set_position(_rounded(axes.get_position(original=True)), which="original")


def _rounded(box: BboxBase) -> Bbox:
    return Bbox(np.round(box.get_points(), 6))
