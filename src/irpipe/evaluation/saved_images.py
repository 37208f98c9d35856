"""Adversarial images in a file, and their scores by one forward pass.

The file is evidence that others can check: scoring it takes the network and the test set, but
neither the attack nor its result.
"""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from irpipe.ascent.norms import norms
from irpipe.datasets import Images
from irpipe.errors import IrpipeError
from irpipe.evaluation.checks import ROUNDING_TOLERANCE
from irpipe.files import atomic_write, read_or_explain
from irpipe.networks.network import Network
from irpipe.results.labels import NORM_SYMBOLS, eps_norm
from irpipe.results.result import Result

BATCH_SIZE = 200  # images per forward pass
LEVEL_TOLERANCE = 1e-4  # what the rounding of float32 may add to one of 255 levels


class Score(NamedTuple):
    """The images at one eps: how many of `n` are correct, and their largest distances.

    `norm` is that of eps: "linf", "l2" or "l1". `is_within` says that all of them lie in [0, 1]
    and, up to rounding, within eps of the clean images. `dtype` is that of the file.
    """

    eps: float
    n: int
    n_correct: int
    linf: float
    l2: float
    l1: float
    norm: str
    is_within: bool
    dtype: str


def save_images(
    path: Path, batches: Sequence[Tensor], result: Result, network: Network, test: Images
) -> None:
    """Write the adversarial images of a result as .npz, atomically.

    `batches` hold the images `[E, n, C, H, W]` of each batch after the most steps. The images of
    an eps are stored as uint8, rounded towards the clean ones, if they then lie within eps and as
    many are misclassified; else as float32.
    """
    images = torch.cat(list(batches), dim=1)
    indices = result.arrays["indices"]
    clean = test.images[indices].to(images.device)
    labels = test.labels[indices]
    norm = eps_norm(result)
    arrays = {"indices": indices, "labels": labels.numpy(), "eps": result.arrays["eps"]}
    arrays["norm"] = np.array(norm)
    for i, eps in enumerate(result.arrays["eps"]):
        levels = _round_towards(clean, images[i])
        rounded = _score(network, levels.float() / 255, clean, labels, float(eps), norm, "uint8")
        n_correct = int(result.arrays["correct"][:, i, -1].sum())
        keeps_success = rounded.is_within and rounded.n_correct <= n_correct
        stored = levels if keeps_success else images[i].float()
        arrays[f"images_{i}"] = stored.cpu().numpy()
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _round_towards(clean: Tensor, images: Tensor) -> Tensor:
    """The images as levels of 0 to 255, uint8, each pixel rounded towards its clean value."""
    levels = images.double() * 255
    down = (levels + LEVEL_TOLERANCE).floor()
    up = (levels - LEVEL_TOLERANCE).ceil()
    return torch.where(images >= clean, down, up).clamp(0, 255).to(torch.uint8)


def rescore(path: Path, network: Network, test: Images, device: torch.device) -> list[Score]:
    """Score the images of a file that `save_images`, or anyone, wrote: one score per eps.

    The clean images and the labels are those of `test`; the file only says which. Raises
    IrpipeError if the file is damaged or does not fit the test set.
    """
    arrays: dict[str, np.ndarray] = read_or_explain(path, "archive of adversarial images", _load)
    indices = arrays["indices"]
    # An image that is there twice would count twice.
    if not len(indices) or not np.isin(indices, np.arange(len(test))).all() or _repeats(indices):
        raise IrpipeError(
            f"{path}: indices are not different positions in a test set of {len(test)} images"
        )
    clean = test.images[indices].to(device)
    labels = test.labels[indices]
    if not np.array_equal(arrays["labels"], labels.numpy()):
        raise IrpipeError(f"{path}: its labels are not those of the test set at its indices")
    norm = str(arrays.get("norm", "linf"))
    if norm not in NORM_SYMBOLS:
        raise IrpipeError(f"{path}: norm {norm!r}; expected {', '.join(NORM_SYMBOLS)}")
    scores = []
    for i, eps in enumerate(arrays["eps"]):
        stored = arrays[f"images_{i}"]
        if stored.shape != tuple(clean.shape) or stored.dtype not in (np.uint8, np.float32):
            raise IrpipeError(
                f"{path}: images_{i} is {stored.dtype} {list(stored.shape)}, expected uint8 or "
                f"float32 {list(clean.shape)}"
            )
        images = torch.from_numpy(stored).to(device)
        images = images.float() / 255 if stored.dtype == np.uint8 else images
        scores.append(_score(network, images, clean, labels, float(eps), norm, str(stored.dtype)))
    return scores


def _repeats(indices: np.ndarray) -> bool:
    return len(np.unique(indices)) < len(indices)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as raw:
            if not zipfile.is_zipfile(raw):  # numpy would advise to unpickle it
                raise ValueError("no .npz")
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(str(error)) from error
    indices, eps = arrays["indices"], arrays["eps"]
    if indices.dtype.kind not in "iu" or indices.ndim != 1:
        raise ValueError("indices are no list of whole numbers")
    if eps.dtype.kind not in "iuf" or eps.ndim != 1 or not len(eps) or not (eps >= 0).all():
        raise ValueError("eps is no list of numbers from 0")
    for name in ("labels", *(f"images_{i}" for i in range(len(eps)))):
        _ = arrays[name]
    return arrays


def _score(
    network: Network,
    images: Tensor,
    clean: Tensor,
    labels: Tensor,
    eps: float,
    norm: str,
    dtype: str,
) -> Score:
    """Score images `[N, C, H, W]`. Images with NaN are outside every eps."""
    with torch.no_grad():
        parts = torch.split(images, BATCH_SIZE)
        prediction = torch.cat([network(part).argmax(dim=1) for part in parts])
    change = images.double() - clean.double()
    linf, l2, l1 = (float(norms(change, name).amax()) for name in ("linf", "l2", "l1"))
    reached = {"linf": linf, "l2": l2, "l1": l1}[norm]
    is_in_range = bool(((images >= 0) & (images <= 1)).all())
    return Score(
        eps=eps,
        n=len(images),
        n_correct=int((prediction.cpu() == labels).sum()),
        linf=linf,
        l2=l2,
        l1=l1,
        norm=norm,
        is_within=is_in_range and reached <= eps + ROUNDING_TOLERANCE,
        dtype=dtype,
    )
