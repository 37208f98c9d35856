"""The figure shows what each method costs in training, and the adversarial test accuracy that it
reaches (Figure 3 of the paper).
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.option_types import Count
from irpipe.published import METHODS
from irpipe.reports._plotting import (
    COLOURS,
    COLUMN_WIDTH,
    GREY,
    add_title,
    marker,
    method_styles,
    plot_style,
    save_figure,
)
from irpipe.results.accuracy import Accuracy, accuracy
from irpipe.results.labels import dataset_model, dataset_model_label, eps_label
from irpipe.results.result import Result
from irpipe.results.select import select_attack


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    dataset: str = "mnist",
    model: str = "small",
    attack: str = "pgd",
    steps: Count = 200,
) -> list[Path]:
    """Draw seconds per epoch on the left and accuracy on the right; return the figure's paths.

    Seconds are the median over the epochs of each method's first network, on the device that its
    log names (C.3 T17). Accuracy is that of the same network at the eps of training. The methods
    stand in falling order of seconds, as in the paper.

    Raises IrpipeError if there is no training log of this data set and model.
    """
    pair = (dataset, model)
    logs: dict[str, Result] = {}
    for log in results:
        if log.attrs["attack"] == "training" and dataset_model(log) == pair:
            logs.setdefault(log.attrs["method"], log)
    if not logs:
        raise IrpipeError(
            f"{output.name}: expected training logs (training_log.csv) of {dataset}/{model}; "
            "found none"
        )
    seconds = {method: float(np.median(log.arrays["seconds"])) for method, log in logs.items()}
    methods = sorted(seconds, key=lambda method: -seconds[method])
    attacked = _attacked_networks(results, attack, output.name, logs)
    train_eps = {eps_label(result.attrs["train_eps"]) for result in attacked.values()}
    with plot_style():
        size = (COLUMN_WIDTH, 0.22 * len(methods) + 1.3)
        figure = Figure(figsize=size, layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_seconds(left, [logs[method] for method in methods], seconds)
        for y, method in enumerate(methods):
            if result := attacked.get(method):
                measured = accuracy(result, result.attrs["train_eps"], steps)
                _draw_accuracy(right, y, method, measured)
        right.set_xlim(-0.03, 1.03)
        right.grid(alpha=0.25, linewidth=0.5, axis="x")
        right.set_xlabel(f"accuracy, {steps} steps,\nε = {', '.join(train_eps) or '-'}")
        add_title(figure, f"{title}, {dataset_model_label(pair)}")
        return save_figure(figure, output)


def _attacked_networks(
    results: list[Result], attack: str, report: str, logs: dict[str, Result]
) -> dict[str, Result]:
    """By method, the result of the attack on the network of the method's log, if there is one."""
    networks = {(log.attrs["method"], log.attrs["run"]) for log in logs.values()}
    pair = dataset_model(next(iter(logs.values())))
    group = select_attack(results, attack, report).get(pair, [])
    return {
        result.attrs["method"]: result
        for result in group
        if (result.attrs["method"], result.attrs["run"]) in networks
    }


def _draw_seconds(panel: Axes, logs: list[Result], seconds: dict[str, float]) -> None:
    """Draw one bar per log, and name the devices that they were trained on."""
    colours, _ = method_styles(logs)
    methods = [log.attrs["method"] for log in logs]
    widths = [seconds[method] for method in methods]
    panel.barh(range(len(methods)), widths, color=[colours[method] for method in methods])
    panel.set_yticks(range(len(methods)), [METHODS.get(method, method) for method in methods])
    panel.invert_yaxis()
    devices = sorted({log.attrs["device"] for log in logs})
    panel.set_xlabel(f"seconds per epoch,\non {', '.join(devices)}")


def _draw_accuracy(panel: Axes, y: int, method: str, measured: Accuracy | None) -> None:
    """Draw a point with its 95% Wilson interval, if there is one."""
    if measured is not None:
        value, _, low, high = measured
        errors = [[value - low], [high - value]]
        colour = COLOURS.get(method, GREY)
        panel.errorbar(value, y, xerr=errors, fmt=marker(method), color=colour, capsize=2)
