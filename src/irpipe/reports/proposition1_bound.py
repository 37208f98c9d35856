"""The points show how tight Proposition 1 is: the discrepancy of adversarial images against its
lower bound (paper eq (5), protocol C.6-4). No point can lie below the line.
"""

from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.reports._plotting import COLOURS, GREY, add_title, plot_style, save_figure
from irpipe.results.labels import dataset_model_label, method_label
from irpipe.results.result import Result
from irpipe.results.select import select_attack

ARRAYS = ("bound", "discrepancy", "prop1_applies", "tightness")
MARKERS = "ox+^v"  # of the attacks; they repeat if there are more


def report(
    results: list[Result], output: Path, *, title: str, attack: str = "proposition1"
) -> list[Path]:
    """Draw one row of panels per data set and model; return the paths of the figure.

    A panel shows one network. A point is an image whose prediction the attack changed from the
    true class to the target class. Raises IrpipeError as `select_attack` does.
    """
    groups = select_attack(results, attack, output.name, ARRAYS)
    n_columns = max(len(group) for group in groups.values())
    with plot_style():
        size = (2.3 * n_columns + 0.4, 2.6 * len(groups) + 0.8)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(groups), n_columns, squeeze=False)
        for panels, (pair, group) in zip(grid, groups.items(), strict=True):
            for panel, result in zip(panels, group, strict=False):
                _draw(panel, result, group)
            for panel in panels[len(group) :]:
                panel.remove()
            panels[0].set_ylabel(f"{dataset_model_label(pair)}\ndiscrepancy")
        add_title(figure, title)
        handles = _legend_handles(next(iter(groups.values()))[0])
        n_legend_columns = min(4, n_columns)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=n_legend_columns, frameon=False
        )
        return save_figure(figure, output)


def _draw(panel: Axes, result: Result, group: list[Result]) -> None:
    """Draw discrepancy against bound, and the line on which they are equal."""
    bound, discrepancy, applies, tightness = (result.arrays[name][:, :, 0] for name in ARRAYS)
    colour = COLOURS.get(result.attrs["method"], GREY)
    for point, marker in zip(range(bound.shape[1]), cycle(MARKERS)):
        counts = applies[:, point]
        panel.plot(
            bound[counts, point],
            discrepancy[counts, point],
            marker,
            color=colour,
            alpha=0.6,
            markersize=4,
        )
    top = 1.05 * float(discrepancy[applies].max()) if applies.any() else 1.0
    panel.fill_between([0, top], [0, top], color="#000000", alpha=0.06, linewidth=0)
    panel.plot([0, top], [0, top], color=GREY, linewidth=1)
    panel.set_xlim(0, top)
    panel.set_ylim(0, top)
    panel.set_aspect("equal")
    panel.set_xlabel("half the margin")
    first_tightness = tightness[applies[:, 0], 0]
    median = f"median tightness {np.median(first_tightness):.2f}" if len(first_tightness) else "-"
    label = method_label(result, group)
    panel.set_title(f"{label}\n{median}, n = {len(first_tightness)}", fontsize=8)


def _legend_handles(result: Result) -> list[Line2D]:
    multipliers = result.attrs["options"]["eps_multipliers"]
    labels = ["PGD at ε*", *(f"ISA at {multiplier:g} ε*" for multiplier in multipliers)]
    markers = [
        Line2D([], [], linestyle="", marker=marker, color=GREY, label=label)
        for label, marker in zip(labels, cycle(MARKERS))
    ]
    line = Line2D([], [], color=GREY, linewidth=1, label="bound of Proposition 1")
    return [*markers, line]
