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
from irpipe.reports._plotting import method_styles, plot_style, save_figure
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
    """Draw seconds per epoch as bars and accuracy as points; return the paths of the figure.

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
    with plot_style():
        figure = Figure(figsize=(1 + 0.75 * max(len(methods), 4), 3.4), layout="constrained")
        bars = figure.subplots()
        _draw_seconds(bars, [logs[method] for method in methods], seconds)
        points = bars.twinx()
        points.spines["right"].set_visible(True)
        points.set_ylim(-0.02, 1.02)
        eps = "-"
        for x, method in enumerate(methods):
            if method in attacked:
                result = attacked[method]
                train_eps = result.attrs["train_eps"]
                _draw_accuracy(points, x, accuracy(result, train_eps, steps))
                eps = eps_label(train_eps)
        points.set_ylabel(f"accuracy, {steps} steps, ε = {eps} (points)")
        bars.set_title(f"{title}\n{dataset_model_label(pair)}", fontsize=9)
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
    heights = [seconds[method] for method in methods]
    panel.bar(methods, heights, color=[colours[method] for method in methods], alpha=0.55)
    labels = [METHODS.get(method, method) for method in methods]
    panel.set_xticks(range(len(methods)), labels, rotation=35, ha="right")
    panel.set_ylabel("seconds per epoch (bars)")
    devices = sorted({log.attrs["device"] for log in logs})
    panel.set_xlabel(f"trained on {', '.join(devices)}")


def _draw_accuracy(panel: Axes, x: int, measured: Accuracy | None) -> None:
    """Draw a point with its 95% Wilson interval, if there is one."""
    if measured is not None:
        value, _, low, high = measured
        errors = [[value - low], [high - value]]
        panel.errorbar(x, value, yerr=errors, fmt="o", color="#222222", markersize=4, capsize=2)
