"""How training went: loss, held-out accuracy, radius and rate over epochs, one row of panels per data set and model."""

import itertools
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.reports.parts.draw import Style, handles, key, save, style
from irpipe.reports.parts.selection import network, pair_of

PANELS = {
    "loss": "training loss",
    "clean_accuracy": "held-out accuracy, clean",
    "attacked_accuracy": "held-out accuracy, attacked",
    "radius": "radius ε of training",
    "rate": "learning rate",
}


def report(results: list[Result], output: Path, *, title: str) -> list[Path]:
    """Draw the training logs among `results` as `output`.png, .pdf and .svg; return the paths.

    Raises IrpipeError if there is none.
    """
    logs = sorted((result for result in results if result.attrs["attack"] == "training"), key=pair_of)
    if not logs:
        raise IrpipeError(f"{output.name}: wants training logs (NET.csv); found none")
    colours, styles = key(logs)
    rows = [(pair, list(members)) for pair, members in itertools.groupby(logs, key=pair_of)]
    with style():
        figure = Figure(figsize=(3 * len(PANELS) + 1.5, 2.4 * len(rows) + 0.4), layout="constrained")
        panels = figure.subplots(len(rows), len(PANELS), squeeze=False)
        for line, (pair, members) in zip(panels, rows, strict=True):
            for panel, (column, label) in zip(line, PANELS.items(), strict=True):
                _draw(panel, members, column, colours, styles)
                panel.set_title(network(pair), fontsize=9)
                panel.set_ylabel(label)
        figure.suptitle(title, fontsize=10)
        figure.legend(handles=handles(colours, styles), loc="outside right upper", frameon=False, fontsize=8)
        return save(figure, output)


def _draw(panel: Axes, logs: list[Result], column: str, colours: dict[str, str], styles: dict[str, Style]) -> None:
    for log in logs:
        x, y = log.arrays["epoch"], log.arrays[column]
        panel.plot(x, y, styles[log.attrs["run"]], color=colours[log.attrs["method"]], linewidth=1.2)
    panel.set_xlabel("epoch")
    panel.grid(alpha=0.25, linewidth=0.5)
    if column == "loss":
        panel.set_yscale("log")  # of TRADES, summed over a batch, 50 times the others
    if "accuracy" in column:
        panel.set_ylim(-0.02, 1.02)
