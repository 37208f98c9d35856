"""What all figures share: colours of methods, styles of runs, fonts, and files whose bytes repeat."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.io import Result, replacing
from irpipe.published import METHODS, place

# Okabe and Ito's palette, safe for colour-blind readers; grey for its yellow, too pale for a line
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
MORE = ("#882255", "#117733", "#999933", "#332288")  # for other methods: Paul Tol's muted scheme
Style = Literal["-", "--", ":", "-."]
STYLES: tuple[Style, ...] = ("-", "--", ":", "-.")


def style() -> AbstractContextManager[None]:
    """The settings under which every figure is drawn and saved."""
    settings = {"svg.hashsalt": "irpipe", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context(cast(Any, settings))


def key(results: list[Result]) -> tuple[dict[str, str], dict[str, Style]]:
    """Colours of methods and line styles of runs, in the order of a legend."""
    methods = sorted({str(result.attrs["method"]) for result in results}, key=lambda method: place(METHODS, method))
    others = [method for method in methods if method not in COLOURS]
    colours = COLOURS | {method: MORE[k % len(MORE)] for k, method in enumerate(others)}
    runs = sorted({str(result.attrs["run"]) for result in results}, key=lambda run: (run != "released", len(run), run))
    return {m: colours[m] for m in methods}, {run: STYLES[k % len(STYLES)] for k, run in enumerate(runs)}


def handles(colours: dict[str, str], styles: dict[str, Style]) -> list[Line2D]:
    """What a legend shows of a key: a line a method, a line a run."""
    methods = [Line2D([], [], color=colour, label=METHODS.get(name, name)) for name, colour in colours.items()]
    return methods + [Line2D([], [], color="#444444", linestyle=dash, label=run) for run, dash in styles.items()]


def save(figure: Figure, output: Path) -> list[Path]:
    """Write a figure as `output`.png, .pdf and .svg, atomically and without dates; return the three paths."""
    paths = []
    for kind, metadata in {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}.items():
        path = output.with_name(f"{output.name}.{kind}")
        with replacing(path) as beside:
            figure.savefig(beside, format=kind, dpi=150, metadata=metadata)
        paths.append(path)
    return paths
