"""The figure shows a clean image and its adversarial version under each interpreter, with the maps
of the true and of the other class (Figure 1 of the paper).
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from irpipe.errors import IrpipeError
from irpipe.option_types import Index, Names
from irpipe.published import INTERPRETERS
from irpipe.reports._plotting import plot_style, save_figure
from irpipe.results.labels import dataset_model, dataset_model_label, method_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_attack

LEGEND = (
    "red: speaks for the class, blue: against it; "
    "τ: Kendall's tau-b between the map of the clean and of the adversarial image"
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd_maps",
    # Index in the test set. None means the first image whose prediction the attack changed.
    image: Index | None = None,
    # None means all methods.
    methods: Names | None = None,
) -> list[Path]:
    """Draw two rows per network, clean and adversarial; return the paths of the figure.

    A map lies over the image in grey. It is upsampled bilinearly; integrated gradients are summed
    over colours. The four maps of an interpreter share one scale, from minus to plus their largest
    absolute value.

    Raises IrpipeError as `select_attack` does, and if nothing is left to draw.
    """
    groups = select_attack(results, attack, output.name, ("image", "target"))
    networks = [
        result
        for group in groups.values()
        for result in group
        if methods is None or result.attrs["method"] in methods
    ]
    if not networks:
        raise IrpipeError(
            f"{output.name}: no result of attack '{attack}' is of method "
            f"{' or '.join(methods or [])}"
        )
    interpreters = [name for name in INTERPRETERS if name in networks[0].arrays]
    with plot_style():
        size = (2.7 * len(interpreters) + 1.7, 3.6 * len(networks) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        subfigures = figure.subfigures(len(networks), 1, squeeze=False).ravel()
        for subfigure, result in zip(subfigures, networks, strict=True):
            network = f"{dataset_model_label(dataset_model(result))}, {method_label(result)}"
            subfigure.suptitle(network, fontsize=9)
            panels = subfigure.subplots(2, 1 + 2 * len(interpreters))
            row = _row(result, image, output.name)
            arrays = {name: array[row] for name, array in result.arrays.items() if name != "steps"}
            _draw_images(panels[:, 0], result, arrays)
            _draw_maps(panels[:, 1:], result, arrays, interpreters)
        figure.suptitle(f"{title}\n{LEGEND}", fontsize=9)
        return save_figure(figure, output)


def _row(result: Result, image: int | None, report: str) -> int:
    """Which of a result's images to draw."""
    if image is not None:
        rows = np.flatnonzero(result.arrays["indices"] == image)
        if not rows.size:
            raise IrpipeError(f"{report}: {result_name(result)} does not have test image {image}")
        return int(rows[0])
    prediction = result.arrays["prediction"]
    was_correct = prediction[:, 0, 0] == result.arrays["label"]
    is_target = prediction[:, 1, 0] == result.arrays["target"][:, 1, 0]
    return int((was_correct & is_target).argmax())


def _draw_images(panels: np.ndarray, result: Result, arrays: dict[str, np.ndarray]) -> None:
    """Draw the clean and the adversarial image, `panels` `[2]`, with the network's predictions."""
    class_names = result.attrs["class_names"]
    labels = ("clean", f"adversarial, ε = {result.attrs['options']['pgd_eps']:g}")
    for point, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        _hide_axes(panel)
        pixels = arrays["image"][point, 0]
        panel.imshow(pixels.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        panel.set_ylabel(label)
        prediction = class_names[arrays["prediction"][point, 0]]
        panel.set_title(f"predicted:\n{prediction}", fontsize=8)


def _draw_maps(
    panels: np.ndarray, result: Result, arrays: dict[str, np.ndarray], interpreters: list[str]
) -> None:
    """Draw the maps, `panels` `[2, 2 * interpreters]`: two classes for each interpreter."""
    class_names = result.attrs["class_names"]
    classes = {"true": arrays["label"], "other": arrays["target"][0, 0]}
    columns = iter(panels.T)
    for interpreter in interpreters:
        maps = arrays[interpreter][:, 0]  # [2, 2, h, w]; integrated gradients: [2, 2, C, H, W]
        if maps.ndim == 5:
            maps = maps.sum(axis=2)
        scale = float(np.abs(maps).max()) or 1.0
        for k, (role, class_index) in enumerate(classes.items()):
            column = next(columns)
            for point, panel in enumerate(column):
                _hide_axes(panel)
                _draw_map(panel, arrays["image"][point, 0], maps[point, k], scale)
            title = f"{INTERPRETERS[interpreter]}\n{role}: {class_names[class_index]}"
            column[0].set_title(title, fontsize=8)
            tau = arrays[f"kendall_tau_{interpreter}"][1, 0, k]
            is_defined = arrays[f"tau_defined_{interpreter}"][1, 0, k]
            column[1].set_xlabel(f"τ = {tau:.2f}" if is_defined else "τ not defined")


def _hide_axes(panel: Axes) -> None:
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _draw_map(panel: Axes, pixels: np.ndarray, values: np.ndarray, scale: float) -> None:
    """Draw a map `[h, w]` over its image `[C, H, W]`, white where the map is 0."""
    width_height = pixels.shape[:0:-1]
    small = Image.fromarray(values.astype(np.float32))
    large = np.asarray(small.resize(width_height, Image.Resampling.BILINEAR))
    panel.imshow(pixels.mean(axis=0), cmap="gray", vmin=0, vmax=1)
    panel.imshow(large, cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.7)
