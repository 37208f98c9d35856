"""The curves show how training went: loss, held-out accuracy, eps and learning rate over epochs,
with two rows of panels for each data set and model.
"""

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.reports._plotting import (
    TEXT_WIDTH,
    LineStyle,
    add_legend,
    add_title,
    legend_handles,
    marker,
    method_styles,
    plot_style,
    save_figure,
    use_log_scale,
)
from irpipe.results.labels import dataset_model, dataset_model_label
from irpipe.results.result import Result

AXIS_LABELS = {  # by column of the training log
    "loss": "training loss",
    "clean_accuracy": "held-out accuracy, clean",
    "attacked_accuracy": "held-out accuracy, PGD",
    "eps": "eps of training",
    "lr": "learning rate",
}


N_COLUMNS = 3


def report(results: list[Result], output: Path, *, title: str) -> list[Path]:
    """Draw the training logs among `results`; return the paths of the figure.

    Raises IrpipeError if there is no training log.
    """
    logs = [result for result in results if result.attrs["attack"] == "training"]
    if not logs:
        raise IrpipeError(f"{output.name}: expected training logs (training_log.csv); found none")
    logs.sort(key=dataset_model)
    groups = {pair: list(group) for pair, group in itertools.groupby(logs, key=dataset_model)}
    colours, line_styles = method_styles(logs)
    with plot_style():
        figure = Figure(figsize=(TEXT_WIDTH, 3.6 * len(groups) + 0.7), layout="constrained")
        panels = figure.subplots(2 * len(groups), N_COLUMNS, squeeze=False)
        panels = panels.reshape(len(groups), -1)
        for row, (pair, group) in zip(panels, groups.items(), strict=True):
            for panel, (column, label) in zip(row, AXIS_LABELS.items(), strict=False):
                _draw(panel, group, column, colours, line_styles)
                panel.set_title(dataset_model_label(pair))
                panel.set_ylabel(label)
            row[-1].remove()
        add_title(figure, title)
        add_legend(figure, legend_handles(colours, line_styles))
        return save_figure(figure, output)


def _draw(
    panel: Axes,
    logs: list[Result],
    column: str,
    colours: dict[str, str],
    line_styles: dict[str, LineStyle],
) -> None:
    """Draw one column of the training logs over epochs."""
    for log in logs:
        panel.plot(
            log.arrays["epoch"],
            log.arrays[column],
            line_styles[log.attrs["run"]],
            color=colours[log.attrs["method"]],
            linewidth=1.2,
            marker=marker(log.attrs["method"]),
            markevery=max(1, len(log.arrays["epoch"]) // 5),
        )
    panel.set_xlabel("epoch")
    panel.grid(alpha=0.25, linewidth=0.5)
    if column == "loss":
        # The loss of TRADES is summed over a batch, 50 times the others.
        use_log_scale(panel, "y")
    if "accuracy" in column:
        panel.set_ylim(-0.02, 1.02)
        if all(np.isnan(log.arrays[column]).all() for log in logs):
            # Without this, an empty panel would look like a fault of the figure.
            panel.annotate(
                "no held-out images",
                (0.5, 0.5),
                xycoords="axes fraction",
                ha="center",
                color="gray",
                fontsize=8,
            )
