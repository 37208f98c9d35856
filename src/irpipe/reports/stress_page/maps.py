"""Clean and attacked images with their maps, as pictures in a page (Figure 1 of the paper)."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image

from irpipe.published import INTERPRETERS
from irpipe.results.result import Result

N_EXAMPLES = 3
PICTURE_PIXELS = 112  # of the longer side; more where the image has more


class Picture(NamedTuple):
    """A picture as a data URI, what it shows, and the text below it."""

    source: str
    description: str
    caption: str


class MapExample(NamedTuple):
    """One test image: pictures of the clean image and its maps, then those under attack."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Picture]]]


def map_examples(result: Result) -> list[MapExample]:
    """Some images of a result of `pgd_maps`: those whose prediction the attack changed first."""
    prediction = result.arrays["prediction"]
    was_correct = prediction[:, 0, 0] == result.arrays["label"]
    is_changed = was_correct & (prediction[:, 1, 0] != result.arrays["label"])
    order = np.argsort(~is_changed, kind="stable")
    return [_example(result, int(row)) for row in order[:N_EXAMPLES]]


def _example(result: Result, row: int) -> MapExample:
    class_names = result.attrs["class_names"]
    arrays = result.arrays
    label = class_names[arrays["label"][row]]
    target = class_names[arrays["target"][row, 0, 0]]
    interpreters = [name for name in INTERPRETERS if name in arrays]
    columns = ["image"]
    for name in interpreters:
        columns += [f"{INTERPRETERS[name]}, true: {label}"]
        columns += [f"{INTERPRETERS[name]}, target: {target}"]
    rows = []
    for point, state in enumerate(("clean", "attacked")):
        predicted = class_names[arrays["prediction"][row, point, 0]]
        pixels = arrays["image"][row, point, 0]
        pictures = [Picture(_data_uri(_rgb(pixels)), f"{state} image", f"predicted: {predicted}")]
        for name in interpreters:
            pictures += _map_pictures(arrays, name, row, point, state)
        rows.append((state, pictures))
    return MapExample(f"test image {arrays['indices'][row]}", columns, rows)


def _map_pictures(
    arrays: dict[str, np.ndarray], interpreter: str, row: int, point: int, state: str
) -> list[Picture]:
    """The maps of the true and of the target class over their image, on one scale."""
    maps = arrays[interpreter][row, :, 0]  # [2, 2, h, w]; integrated gradients: [2, 2, C, H, W]
    if maps.ndim == 5:
        maps = maps.sum(axis=2)
    scale = float(np.abs(maps).max()) or 1.0
    pictures = []
    for k, role in enumerate(("true", "target")):
        tau = arrays[f"kendall_tau_{interpreter}"][row, point, 0, k]
        is_defined = arrays[f"tau_defined_{interpreter}"][row, point, 0, k]
        caption = ""
        if state == "attacked":
            caption = f"τ = {tau:.2f}" if is_defined else "τ not defined"
        picture = _overlay(arrays["image"][row, point, 0], maps[point, k] / scale)
        description = f"{INTERPRETERS[interpreter]} of the {role} class, {state}"
        pictures.append(Picture(_data_uri(picture), description, caption))
    return pictures


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels `[C, H, W]` in [0, 1] as an enlarged RGB image `[H', W', 3]` in [0, 1]."""
    colours = np.broadcast_to(pixels, (3, *pixels.shape[1:])) if len(pixels) == 1 else pixels
    factor = max(1, PICTURE_PIXELS // max(pixels.shape[1:]))
    enlarged: np.ndarray = colours.repeat(factor, axis=1).repeat(factor, axis=2)
    return enlarged.transpose(1, 2, 0)


def _overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map `[h, w]` in [-1, 1] over its image in grey, white where the map is 0."""
    grey = _rgb(pixels.mean(axis=0, keepdims=True))
    height, width = grey.shape[:2]
    small = Image.fromarray(values.astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps["RdBu_r"]((large + 1) / 2)[..., :3]
    overlay: np.ndarray = 0.3 * grey + 0.7 * colours
    return overlay


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray((picture * 255).round().astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
