"""Figure 3: what each method costs in training, and the accuracy it buys."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import METHODS
from irpipe.quantities import Count
from irpipe.reports.parts.draw import key, save, style
from irpipe.reports.parts.selection import Rate, eps_label, network, pair_of, rate, select


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
    """Draw seconds per epoch (bars) and accuracy at the training radius (points) as `output`.png, .pdf and .svg.

    Seconds are the median over the epochs of each method's first network, on the device its log names (C.3 T17);
    methods stand in falling order of them, as in the paper. Raises IrpipeError if no training of this data set and
    model is among the results.
    """
    pair = (dataset, model)
    logs: dict[str, Result] = {}
    for log in results:
        if log.attrs["attack"] == "training" and pair_of(log) == pair:
            logs.setdefault(log.attrs["method"], log)
    if not logs:
        raise IrpipeError(f"{output.name}: wants training logs (NET.csv) of {dataset}/{model}; found none")
    attacked = {(r.attrs["method"], r.attrs["run"]): r for r in select(results, attack, output.name).get(pair, [])}
    seconds = {method: float(np.median(log.arrays["seconds"])) for method, log in logs.items()}
    methods = sorted(seconds, key=lambda method: -seconds[method])
    found = {m: r for m in methods if (r := attacked.get((m, logs[m].attrs["run"]))) is not None}
    with style():
        figure = Figure(figsize=(1 + 0.75 * max(len(methods), 4), 3.4), layout="constrained")
        bars = figure.subplots()
        bars.bar(methods, [seconds[m] for m in methods], color=[key([logs[m]])[0][m] for m in methods], alpha=0.55)
        bars.set_xticks(range(len(methods)), [METHODS.get(m, m) for m in methods], rotation=35, ha="right")
        bars.set_ylabel("seconds per epoch (bars)")
        bars.set_xlabel("trained on " + ", ".join(sorted({logs[m].attrs["device"] for m in methods})))
        points = bars.twinx()
        points.spines["right"].set_visible(True)
        points.set_ylim(-0.02, 1.02)
        for m, result in found.items():
            _point(points, methods.index(m), rate(result, result.attrs["nominal_radius"], steps))
        radius = eps_label(next(iter(found.values())).attrs["nominal_radius"]) if found else "-"
        points.set_ylabel(f"accuracy, {steps} steps, ε = {radius} (points)")
        bars.set_title(f"{title}\n{network(pair)}", fontsize=9)
        return save(figure, output)


def _point(panel: Axes, x: int, at: Rate | None) -> None:
    """A point with its 95% Wilson interval, where there is one."""
    if at is not None:
        spread = [[at.value - at.low], [at.high - at.value]]
        panel.errorbar(x, at.value, yerr=spread, fmt="o", color="#222222", markersize=4, capsize=2)
