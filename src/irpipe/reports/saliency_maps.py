"""The figure shows a clean image and its adversarial version under each interpreter, with the maps
of the true and of another class (Figure 1 of the paper). Red speaks for a class, blue against it.
τ is Kendall's tau-b between clean and adversarial map. Networks of a data set show the same image.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL import Image

from irpipe.errors import IrpipeError
from irpipe.option_types import Index, Names
from irpipe.published import INTERPRETERS
from irpipe.reports._plotting import (
    COLUMN_WIDTH,
    TEXT_WIDTH,
    add_title,
    plot_style,
    save_figure,
)
from irpipe.results.labels import (
    dataset_model,
    dataset_model_label,
    eps_label,
    method_label,
    result_name,
)
from irpipe.results.result import Result
from irpipe.results.select import select_attack

N_COLUMNS = 9  # panels side by side, at most


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd_maps",
    # Index in the test set. None means the first image that all networks of the data set classify
    # correctly, and some of them, but not all, under attack. If there is none, all may fail.
    image: Index | None = None,
    # None means all methods.
    methods: Names | None = None,
) -> list[Path]:
    """Draw two rows per network, clean and adversarial; return the paths of the figure.

    Networks stand side by side as far as their panels fit. A map lies over the image in grey. It
    is upsampled bilinearly; integrated gradients are summed over colours. The four maps of an
    interpreter share one scale, from minus to plus their largest absolute value.

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
        figure, panels_of_networks = _panels(len(networks), 1 + 2 * len(interpreters))
        for result, (subfigure, panels) in zip(networks, panels_of_networks, strict=True):
            network = f"{dataset_model_label(dataset_model(result))}, "
            subfigure.suptitle(network + method_label(result, networks), fontsize=8)
            dataset = result.attrs["dataset"]
            of_dataset = [other for other in networks if other.attrs["dataset"] == dataset]
            row = _row(result, image, of_dataset, output.name)
            arrays = {name: array[row] for name, array in result.arrays.items() if name != "steps"}
            _draw_images(panels[:, 0], result, arrays)
            _draw_maps(panels[:, 1:], result, arrays, interpreters)
        add_title(figure, title)
        return save_figure(figure, output)


def _panels(n_networks: int, n_columns: int) -> tuple[Figure, list[tuple[SubFigure, np.ndarray]]]:
    """A figure, and for each network its part of it with panels `[2, n_columns]`."""
    n_across = min(n_networks, max(1, N_COLUMNS // n_columns))
    n_down = math.ceil(n_networks / n_across)
    width = TEXT_WIDTH if n_across * n_columns > 3 else COLUMN_WIDTH
    panel_height = width / (n_across * n_columns)
    size = (width, n_down * (2 * panel_height + 1.0) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    subfigures = figure.subfigures(n_down, n_across, squeeze=False).ravel()[:n_networks]
    return figure, [(part, part.subplots(2, n_columns)) for part in subfigures]


def _row(result: Result, image: int | None, of_dataset: list[Result], report: str) -> int:
    """Which of a result's images to draw. They are the same as those of the other networks."""
    if image is not None:
        rows = np.flatnonzero(result.arrays["indices"] == image)
        if not rows.size:
            raise IrpipeError(f"{report}: {result_name(result)} does not have test image {image}")
        return int(rows[0])
    predictions = np.stack([other.arrays["prediction"] for other in of_dataset])  # [R, N, 2, 1]
    is_correct = predictions[..., 0] == result.arrays["label"][:, None]
    was_correct = is_correct[:, :, 0].all(axis=0)
    is_broken = was_correct & ~is_correct[:, :, 1].all(axis=0)
    differs = is_broken & is_correct[:, :, 1].any(axis=0)
    choices = next((rule for rule in (differs, is_broken) if rule.any()), was_correct)
    return int(choices.argmax())


def _draw_images(panels: np.ndarray, result: Result, arrays: dict[str, np.ndarray]) -> None:
    """Draw the clean and the adversarial image, `panels` `[2]`, with the network's predictions."""
    class_names = result.attrs["class_names"]
    labels = ("clean", f"adversarial,\nε = {eps_label(result.attrs['options']['pgd_eps'])}")
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
