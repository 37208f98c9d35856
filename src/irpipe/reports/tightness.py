"""How tight Proposition 1 is: the discrepancy of attacked images against its lower bound (paper eq (5), C.6-4)."""

from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.io import Result
from irpipe.reports.parts.draw import COLOURS, save, style
from irpipe.reports.parts.selection import method, network, select

ARRAYS = ("bound", "discrepancy", "changed", "tightness")
MARKERS = "ox+^v"  # of the attacks, over again if there are more


def report(results: list[Result], output: Path, *, title: str, attack: str = "proposition") -> list[Path]:
    """Draw one row of panels per data set and model, a panel per method, as `output`.png, .pdf and .svg; return paths.

    A point is an image whose prediction the attack changed; none can lie below the line. Raises IrpipeError as
    `selection.select` does.
    """
    chosen = select(results, attack, output.name, ARRAYS)
    wide = max(len(members) for members in chosen.values())
    with style():
        figure = Figure(figsize=(2.3 * wide + 0.4, 2.6 * len(chosen) + 0.8), layout="constrained")
        grid = figure.subplots(len(chosen), wide, squeeze=False)
        for panels, (pair, members) in zip(grid, chosen.items(), strict=True):
            for panel, result in zip(panels, members, strict=False):
                _draw(panel, result)
            for panel in panels[len(members) :]:
                panel.remove()
            panels[0].set_ylabel(f"{network(pair)}\ndiscrepancy")
        figure.suptitle(title, fontsize=10)
        figure.legend(
            handles=_legend(next(iter(chosen.values()))[0]), loc="outside lower center", ncols=4, frameon=False
        )
        return save(figure, output)


def _draw(panel: Axes, result: Result) -> None:
    bound, discrepancy, changed, tightness = (result.arrays[key][:, :, 0] for key in ARRAYS)
    colour = COLOURS.get(result.attrs["method"], "#444444")
    for point, marker in zip(range(bound.shape[1]), cycle(MARKERS)):
        kept = changed[:, point]
        panel.plot(bound[kept, point], discrepancy[kept, point], marker, color=colour, alpha=0.6, markersize=4)
    top = 1.05 * float(discrepancy[changed].max()) if changed.any() else 1.0
    panel.fill_between([0, top], [0, top], color="#000000", alpha=0.06, linewidth=0)
    panel.plot([0, top], [0, top], color="#444444", linewidth=1)
    panel.set_xlim(0, top)
    panel.set_ylim(0, top)
    panel.set_aspect("equal")
    median = f"median tightness {np.median(tightness[:, 0][changed[:, 0]]):.2f}" if changed[:, 0].any() else "-"
    panel.set_title(f"{method(result)}\n{median}, n = {changed[:, 0].sum()}", fontsize=8)
    panel.set_xlabel("half the margin")


def _legend(result: Result) -> list[Line2D]:
    labels = ["least radius", *(f"sneaking, {factor:g} × that radius" for factor in result.attrs["spec"]["penalties"])]
    drawn = [
        Line2D([], [], linestyle="", marker=marker, color="#444444", label=label)
        for label, marker in zip(labels, cycle(MARKERS))
    ]
    return [*drawn, Line2D([], [], color="#444444", linewidth=1, label="bound of Proposition 1")]
