"""An image and its attacked version under each interpreter, for the true and the other class (Figure 1)."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import INTERPRETERS
from irpipe.quantities import Index, Names
from irpipe.reports.parts.draw import save, style
from irpipe.reports.parts.selection import method, name, network, pair_of, select

LEGEND = "red: speaks for the class, blue: against it; τ: Kendall's tau-b of the map, benign against attacked"


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "saliency",
    image: Index | None = None,  # its place in the test set; none: the first that the attack turned
    methods: Names | None = None,  # none: all
) -> list[Path]:
    """Draw two rows per network, benign and attacked, as `output`.png, .pdf and .svg; return the paths.

    Maps lie over the image in grey, upsampled bilinearly, integrated gradients summed over colours. An interpreter's
    four maps share one scale, from minus to plus their largest magnitude. Raises IrpipeError as
    `selection.select` does, and if nothing is left to draw.
    """
    chosen = select(results, attack, output.name, ("image", "target")).values()
    found = [r for members in chosen for r in members if methods is None or r.attrs["method"] in methods]
    if not found:
        raise IrpipeError(f"{output.name}: no result of attack '{attack}' is of method {' or '.join(methods or [])}")
    kinds = [kind for kind in INTERPRETERS if kind in found[0].arrays]
    with style():
        figure = Figure(figsize=(2.7 * len(kinds) + 1.7, 3.6 * len(found) + 0.5), layout="constrained")
        blocks = figure.subfigures(len(found), 1, squeeze=False).ravel()
        for block, result in zip(blocks, found, strict=True):
            block.suptitle(f"{network(pair_of(result))}, {method(result)}", fontsize=9)
            _draw(block.subplots(2, 1 + 2 * len(kinds)), result, _row(result, image, output.name), kinds)
        figure.suptitle(f"{title}\n{LEGEND}", fontsize=9)
        return save(figure, output)


def _row(result: Result, image: int | None, report: str) -> int:
    """Which of a result's images to draw."""
    if image is not None:
        rows = np.flatnonzero(result.arrays["index"] == image)
        if not rows.size:
            raise IrpipeError(f"{report}: {name(result)} does not have test image {image}")
        return int(rows[0])
    label, target, prediction = (result.arrays[key] for key in ("label", "target", "prediction"))
    turned = (prediction[:, 0, 0] == label) & (prediction[:, 1, 0] == target[:, 1, 0])
    return int(turned.argmax())


def _draw(panels: np.ndarray, result: Result, row: int, kinds: list[str]) -> None:
    arrays, classes = {key: result.arrays[key][row] for key in result.arrays if key != "steps"}, result.attrs["classes"]
    pixels, radius = arrays["image"][:, 0], result.attrs["spec"]["radius"]
    for panel in panels.ravel():
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    for panel, shown, what, taken in zip(
        panels[:, 0], pixels, ("benign", f"attacked, ε = {radius:g}"), arrays["prediction"][:, 0], strict=True
    ):
        panel.imshow(shown.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        panel.set_ylabel(what)
        panel.set_title(f"predicted:\n{classes[taken]}", fontsize=8)
    pairs = [(kind, k) for kind in kinds for k in range(2)]
    for (above, below), (kind, k) in zip(panels[:, 1:].T, pairs, strict=True):
        maps = arrays[kind][:, 0]  # [2, 2, h, w] or, of integrated gradients, [2, 2, C, H, W]
        maps = maps.sum(axis=2) if maps.ndim == 5 else maps
        scale = float(np.abs(maps).max()) or 1.0
        role, shown = (("true", arrays["label"]), ("other", arrays["target"][0, 0]))[k]
        above.set_title(f"{INTERPRETERS[kind]}\n{role}: {classes[shown]}", fontsize=8)
        for panel, image, values in zip((above, below), pixels, maps[:, k], strict=True):
            _overlay(panel, image, values, scale)
        tau, defined = (arrays[f"{key}_{kind}"][1, 0, k] for key in ("tau", "defined"))
        below.set_xlabel(f"τ = {tau:.2f}" if defined else "τ not defined")


def _overlay(panel: Axes, pixels: np.ndarray, values: np.ndarray, scale: float) -> None:
    """A map `[h, w]` over its image `[C, H, W]`, white where it is 0."""
    size = pixels.shape[:0:-1]
    large = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    panel.imshow(pixels.mean(axis=0), cmap="gray", vmin=0, vmax=1)
    panel.imshow(large, cmap="RdBu_r", vmin=-scale, vmax=scale, alpha=0.7)
