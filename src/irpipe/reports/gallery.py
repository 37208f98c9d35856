"""One test image under each attack, a row for each network."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from irpipe.attacks.parts import table5
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.quantities import Index, Names
from irpipe.reports.parts.draw import save, style
from irpipe.reports.parts.selection import Pair, method, name, network, together

ARRAYS = ("picture", "clean", "prediction", "label")


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["gabor", "snow", "jpeg_linf", "jpeg_l2", "jpeg_l1", "fog"],  # noqa: B006 (read, never changed)
    image: Index = 0,
) -> list[Path]:
    """Draw image `image` of those that the results keep, clean and attacked at the first radius; return the paths.

    Below each stands the class that the network sees, below the clean one its label. Raises IrpipeError as
    `selection.together` does, and if a result does not keep this image.
    """
    rows = [(pair, each) for pair, them in together(results, attacks, output.name, ARRAYS).items() for each in them]
    with style():
        figure = Figure(figsize=(1.1 * len(attacks) + 2.4, 1.3 * len(rows) + 0.6), layout="constrained")
        for line, (pair, each) in zip(figure.subplots(len(rows), len(attacks) + 1, squeeze=False), rows, strict=True):
            _draw_row(output.name, line, pair, each, image)
        for panel, words in zip(figure.axes, ["clean", *(table5.title(result) for result in rows[0][1])], strict=False):
            panel.set_title(words, fontsize=8)
        figure.suptitle(title, fontsize=10)
        return save(figure, output)


def _draw_row(report: str, line: np.ndarray, pair: Pair, results: list[Result], image: int) -> None:
    from irpipe.data import dataset  # which loads torch

    classes = dataset(results[0].attrs["network"]["data"]["kind"]).CLASSES
    for result in results:
        if len(result.arrays["picture"]) <= image:
            kept = len(result.arrays["picture"])
            raise IrpipeError(f"{report}: {name(result)} keeps {kept} images, not image {image}; attack with more kept")
    first = results[0].arrays
    _draw(line[0], first["clean"][image, 0, 0], classes[first["label"][image]])
    line[0].set_ylabel(f"{method(results[0])}\n{network(pair)}", fontsize=7)
    for panel, result in zip(line[1:], results, strict=True):
        seen = result.arrays["prediction"][image, 0, 0]
        _draw(panel, result.arrays["picture"][image, 0, 0], classes[seen])


def _draw(panel: Axes, picture: np.ndarray, words: str) -> None:
    """A picture `[C, H, W]` in bytes, with words below."""
    grey = len(picture) == 1
    panel.imshow(picture[0] if grey else picture.transpose(1, 2, 0), cmap="gray" if grey else None, vmin=0, vmax=255)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_xlabel(words, fontsize=7)
