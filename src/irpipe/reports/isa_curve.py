"""The curves show the discrepancy that the interpretability sneaking attack cannot avoid, against
the perturbation size that it may use (Figure 2 (a) and (b) of the paper).
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.analysis.nds import NDS_ARRAYS, measures_of
from irpipe.errors import IrpipeError
from irpipe.option_types import Index
from irpipe.published import CLASS_SETS, INTERPRETERS, NORMS
from irpipe.reports._plotting import plot_style, save_figure
from irpipe.results.labels import dataset_model, dataset_model_label, method_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_attack
from irpipe.statistics import bootstrap

COLOURS = {"one": "#D55E00", "two": "#0072B2", "all": "#009E73"}  # Okabe and Ito's palette


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
        size = (3.6 * len(norms) + 0.4, 2.9 * len(networks) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(networks), len(norms), squeeze=False)
        for row, result in zip(panels, networks, strict=True):
            for panel, norm in zip(row, norms, strict=True):
                _draw_panel(panel, result, norm, image, output.name)
        figure.suptitle(title, fontsize=10)
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
        colour = COLOURS[measure.class_set]
        label = CLASS_SETS[measure.class_set]
        panel.plot(x, y, "-o", color=colour, label=label, linewidth=1.3, markersize=3)
        panel.plot(x[:1], y[:1], "o", color=colour, markerfacecolor="white", markersize=6)
        panel.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    network = f"{dataset_model_label(dataset_model(result))}, {method_label(result)}"
    interpreter = INTERPRETERS[result.attrs["options"]["interpreter"]]
    panel.set_title(f"{network}, {interpreter}", fontsize=9)
    panel.set_ylabel(f"{'squared ' if norm == 'l2' else ''}{NORMS[norm]} discrepancy")
    if image is None:
        panel.set_xlabel("ε / ε* (ε*: the smallest ε that succeeds)")
    else:
        panel.set_xlabel("\N{SCRIPT SMALL L}∞ distance from the clean image")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.25, linewidth=0.5)
    panel.legend(frameon=False, fontsize=8, loc="lower left")


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
