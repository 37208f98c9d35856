"""The figure shows one test image under each attack, with one row for each network. Below an image
stands the class that the network predicts, below the clean image its true class.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.analysis.table5_scoring import attack_title
from irpipe.errors import IrpipeError
from irpipe.option_types import Index, Names
from irpipe.reports._plotting import add_title, plot_style, save_figure
from irpipe.results.labels import dataset_model_label, method_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_attacks

ARRAYS = ("adversarial_uint8", "clean_uint8", "prediction", "label")


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["gabor", "snow", "jpeg_linf", "jpeg_l2", "jpeg_l1", "fog"],  # noqa: B006
    # Index among the images that the results store.
    image: Index = 0,
) -> list[Path]:
    """Draw one image at the first eps of each attack; return the paths of the figure.

    Raises IrpipeError as `select_attacks` does, and if a result does not store the image.
    """
    groups = select_attacks(results, attacks, output.name, ARRAYS)
    rows = [(pair, network) for pair, networks in groups.items() for network in networks]
    titles = ["clean", *(attack_title(result) for result in rows[0][1])]
    with plot_style():
        size = (1.1 * len(attacks) + 2.4, 1.3 * len(rows) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(rows), len(attacks) + 1, squeeze=False)
        for row_panels, (pair, network) in zip(panels, rows, strict=True):
            label = f"{method_label(network[0], results)}\n{dataset_model_label(pair)}"
            row_panels[0].set_ylabel(label, fontsize=7)
            _draw_row(row_panels, network, image, output.name)
        for panel, panel_title in zip(panels[0], titles, strict=True):
            panel.set_title(panel_title, fontsize=8)
        add_title(figure, title)
        return save_figure(figure, output)


def _draw_row(panels: np.ndarray, results: list[Result], image: int, report: str) -> None:
    """Draw the clean image, and the image under the attack of each result."""
    for result in results:
        n_stored = len(result.arrays["adversarial_uint8"])
        if n_stored <= image:
            raise IrpipeError(
                f"{report}: {result_name(result)} stores {n_stored} images, not image {image}; "
                "attack with a larger save_examples"
            )
    class_names = results[0].attrs["class_names"]
    first = results[0].arrays
    _draw(panels[0], first["clean_uint8"][image, 0, 0], class_names[first["label"][image]])
    for panel, result in zip(panels[1:], results, strict=True):
        prediction = result.arrays["prediction"][image, 0, 0]
        pixels = result.arrays["adversarial_uint8"][image, 0, 0]
        _draw(panel, pixels, class_names[prediction])


def _draw(panel: Axes, pixels: np.ndarray, class_name: str) -> None:
    """Draw an image, uint8 `[C, H, W]`, with the name of a class below."""
    if len(pixels) == 1:
        panel.imshow(pixels[0], cmap="gray", vmin=0, vmax=255)
    else:
        panel.imshow(pixels.transpose(1, 2, 0))
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(class_name, fontsize=7)
