"""The curves show the discrepancy that the interpretability sneaking attack cannot avoid, against
the perturbation size that it may use (Figure 2 (a) and (b) of the paper).
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from irpipe.analysis.nds import NDS_ARRAYS, measures_of
from irpipe.errors import IrpipeError
from irpipe.option_types import Index
from irpipe.published import CLASS_SETS, INTERPRETERS, NORMS
from irpipe.reports._plotting import (
    COLUMN_WIDTH,
    GREY,
    TEXT_WIDTH,
    add_legend,
    add_title,
    plot_style,
    save_figure,
)
from irpipe.results.labels import dataset_model, dataset_model_label, method_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_attack
from irpipe.statistics import bootstrap

# By class set: a colour of Paul Tol's muted scheme that no method has, and a marker.
STYLES = {"one": ("#CC6677", "v"), "two": ("#332288", "o"), "all": ("#44AA99", "s")}


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "isa",
    # Index of one image in the test set. None means the mean over images.
    image: Index | None = None,
) -> list[Path]:
    """Draw one row of panels per network, with one panel per norm; return the paths of its files.

    A curve shows the discrepancy in one measure (for l2, its square, C.5 I13), as the running
    minimum over growing eps. For one image, the x axis is the l-inf distance that the attack
    reached. For the mean, it is eps over the image's own smallest eps; the images are those with
    only valid points, and a band shows the 95% bootstrap interval. The hollow point is the plain
    attack.

    Raises IrpipeError as `select_attack` does, and if a result lacks the image or has nothing to
    draw.
    """
    arrays = (*NDS_ARRAYS, "discrepancy", "indices")
    groups = select_attack(results, attack, output.name, arrays)
    networks = [result for group in groups.values() for result in group]
    norms = list(
        dict.fromkeys(measure.norm for result in networks for measure in measures_of(result))
    )
    with plot_style():
        width = TEXT_WIDTH if len(norms) > 1 else COLUMN_WIDTH
        figure = Figure(figsize=(width, 2.0 * len(networks) + 0.8), layout="constrained")
        panels = figure.subplots(len(networks), len(norms), squeeze=False, sharex=image is None)
        for row, result in zip(panels, networks, strict=True):
            network = f"{dataset_model_label(dataset_model(result))}, "
            network += method_label(result, networks)
            interpreter = INTERPRETERS[result.attrs["options"]["interpreter"]]
            for panel, norm in zip(row, norms, strict=True):
                panel.set_title(f"{network}, {interpreter}")
                _draw_panel(panel, result, norm, image, output.name)
        for panel in panels[-1]:
            if image is None:
                panel.set_xlabel("ε / ε* (ε*: the smallest ε that succeeds)")
            else:
                panel.set_xlabel("\N{SCRIPT SMALL L}∞ distance from the clean image")
        add_title(figure, title)
        add_legend(figure, _legend_handles(networks), 1.3)
        return save_figure(figure, output)


def _draw_panel(panel: Axes, result: Result, norm: str, image: int | None, report: str) -> None:
    for index, measure in enumerate(measures_of(result)):
        if measure.norm != norm:
            continue
        if image is None:
            x, y, low, high = _mean_curve(result, index, report)
        else:
            x, y = _image_curve(result, index, image, report)
            low, high = y, y
        colour, marker = STYLES[measure.class_set]
        panel.plot(x, y, color=colour, marker=marker, linewidth=1.2)
        panel.plot(x[:1], y[:1], marker, color=colour, markerfacecolor="white", markersize=6)
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.set_ylabel(f"{'squared ' if norm == 'l2' else ''}{NORMS[norm]} discrepancy")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25, linewidth=0.5)


def _legend_handles(networks: list[Result]) -> list[Line2D]:
    """One entry per class set that is drawn, and one for the plain attack."""
    class_sets = {measure.class_set for result in networks for measure in measures_of(result)}
    drawn = [
        Line2D([], [], color=colour, marker=marker, label=CLASS_SETS[class_set])
        for class_set, (colour, marker) in STYLES.items()
        if class_set in class_sets
    ]
    plain = Line2D([], [], linestyle="", marker="o", color=GREY, markerfacecolor="white")
    plain.set(markersize=6, label="PGD")
    return [*drawn, plain]


def _image_curve(
    result: Result, measure_index: int, image: int, report: str
) -> tuple[np.ndarray, np.ndarray]:
    """l-inf distance and discrepancy of one image's valid points, `[E]` each."""
    (rows,) = np.nonzero(result.arrays["indices"] == image)
    if not rows.size:
        raise IrpipeError(f"{report}: {result_name(result)} does not have test image {image}")
    is_valid, distance, discrepancy = (
        result.arrays[name][rows[0], :, measure_index]
        for name in ("is_valid", "linf_distance", "discrepancy")
    )
    if not is_valid.any():
        raise IrpipeError(
            f"{report}: {result_name(result)} has no valid attack on test image {image}"
        )
    return distance[is_valid], np.minimum.accumulate(discrepancy[is_valid])


def _mean_curve(
    result: Result, measure_index: int, report: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """eps over eps*, mean discrepancy, and the ends of its interval, `[E]` each."""
    discrepancy = result.arrays["discrepancy"][:, :, measure_index]
    has_all_points = result.arrays["is_valid"][:, :, measure_index].all(axis=1)
    if not has_all_points.any():
        raise IrpipeError(
            f"{report}: {result_name(result)} has no image with valid attacks at every eps"
        )
    curves = np.minimum.accumulate(discrepancy[has_all_points], axis=1)
    low, high = np.array([bootstrap(column) for column in curves.T]).T
    eps_ratios = np.array([1, *result.attrs["options"]["eps_multipliers"]])
    return eps_ratios, curves.mean(axis=0), low, high
