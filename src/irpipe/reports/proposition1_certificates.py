"""The curves show the share of images that are certified to be robust against eps: by Proposition
1 and by bounds of the margins. Dots show how much Proposition 1 could certify with perfect bounds.
"""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.analysis.certified_maps import MAP_ARRAYS, robustness
from irpipe.reports._plotting import (
    COLOURS,
    COLUMN_WIDTH,
    GREY,
    TEXT_WIDTH,
    add_legend,
    add_title,
    plot_style,
    save_figure,
)
from irpipe.results.labels import dataset_model_label, eps_label, method_label
from irpipe.results.result import Result
from irpipe.results.select import select_attack

# Name in `Robustness`, label, and line with its marker.
CURVES = (
    ("by_margin", "certified by the margin", "-o"),
    ("by_proposition1", "certified by Proposition 1", "--s"),
    ("proposition1_limit", "limit of Proposition 1 (attack)", ":^"),
)
N_COLUMNS = 4


def report(
    results: list[Result], output: Path, *, title: str, attack: str = "certify_maps"
) -> list[Path]:
    """Draw one panel per network; return the paths of the figure.

    Raises IrpipeError as `select_attack` does.
    """
    groups = select_attack(results, attack, output.name, MAP_ARRAYS)
    networks = [(pair, result) for pair, group in groups.items() for result in group]
    n_columns = min(N_COLUMNS, len(networks))
    n_rows = math.ceil(len(networks) / n_columns)
    with plot_style():
        width = TEXT_WIDTH if n_columns > 1 else COLUMN_WIDTH
        figure = Figure(figsize=(width, 2.1 * n_rows + 0.9), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).ravel()
        for panel, (pair, result) in zip(panels, networks, strict=False):
            _draw(panel, result)
            label = f"{dataset_model_label(pair)}, {method_label(result, results)}"
            panel.set_title(label)
        for panel in panels[len(networks) :]:
            panel.remove()
        for panel in panels[: len(networks) : n_columns]:
            panel.set_ylabel("share of images")
        add_title(figure, title)
        handles = []
        for _, text, style in CURVES:
            handles += panels[0].plot([], [], style, color=GREY, label=text)
        add_legend(figure, handles, 2.3)
        return save_figure(figure, output)


def _draw(panel: Axes, result: Result) -> None:
    """Draw the three shares at all eps above 0."""
    is_positive = result.arrays["eps"] > 0
    eps = result.arrays["eps"][is_positive]
    order = eps.argsort()
    shares = robustness(result)._asdict()
    colour = COLOURS.get(result.attrs["method"], GREY)
    for name, _, style in CURVES:
        share = shares[name][:, is_positive].mean(axis=0)
        panel.plot(eps[order], share[order], style, color=colour)
    panel.set_ylim(-0.03, 1.03)
    panel.set_xticks(eps, [eps_label(value) for value in eps])
    panel.set_xlabel("ε")
    panel.grid(alpha=0.25, linewidth=0.5)
