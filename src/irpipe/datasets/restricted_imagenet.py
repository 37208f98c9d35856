"""Restricted ImageNet: nine superclasses of 203 ImageNet classes (C.1).

The images are `<root>/{train,val}/<wnid>/*.JPEG`. `restricted_imagenet.csv` lists the 203
classes: the index in ImageNet's order, the wnid (the folder's name) and the superclass.
"""

import csv
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from irpipe.datasets import Images, Split
from irpipe.datasets._image_files import ImageFiles
from irpipe.errors import IrpipeError
from irpipe.runtime.threads import single_threaded_torch

if TYPE_CHECKING:
    from PIL import Image

SHAPE = (3, 224, 224)
CLASS_NAMES = ("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect")
EVAL_EPS: tuple[float, ...] = (0.0, 0.003)
TRAIN_EPS = 0.003
N_VALIDATION = 0  # C.1: its validation set is the test set.
FILES = {
    "train": ("train", "restricted_imagenet/train"),
    "test": ("val", "restricted_imagenet/val"),
}


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Find all images of the 203 classes, sorted by wnid and file name.

    Images are `[N, 3, 224, 224]` float32; each takes 0.6 MB, so they stay in their files until
    they are asked for (`ImageFiles`). They are looked for below `<root>`, then below
    `<root>/restricted_imagenet`. Other folders are ignored, and folders of the 203 may be absent.
    `download` has no effect, because ImageNet asks for an account.

    Raises IrpipeError if there is no image.
    """
    with Path(__file__).with_suffix(".csv").open(newline="", encoding="utf-8") as table:
        superclass = {row["wnid"]: row["superclass"] for row in csv.DictReader(table)}
    folders = [root / name for name in FILES[split]]
    paths = _image_paths(folders[0], superclass) or _image_paths(folders[1], superclass)
    if not paths:
        location = " or ".join(str(folder / "<wnid>") for folder in folders)
        raise IrpipeError(f"no image of Restricted ImageNet; put them, as *.JPEG, into {location}")
    labels = torch.tensor([CLASS_NAMES.index(superclass[path.parent.name]) for path in paths])
    return Images(ImageFiles(paths, _read_image, SHAPE), labels)


def _image_paths(folder: Path, wnids: Collection[str]) -> list[Path]:
    """Return the paths of all images in folders below `folder` named by one of `wnids`."""
    return sorted(path for path in folder.glob("*/*.JPEG") if path.parent.name in wnids)


def _read_image(path: Path) -> Tensor:
    """Return one image `[3, 224, 224]`, resized without a crop as the released code does.

    The released code calls cv2.resize: bilinear between pixel centres, rounded half up. This
    comes within one level of cv2 5.0.0. PIL's resize smooths as it shrinks and is up to 29
    levels off.

    Raises IrpipeError if the file cannot be read.
    """
    from PIL import Image

    bombs = (Image.DecompressionBombWarning, Image.DecompressionBombError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # One of ImageNet's files named JPEG is a PNG.
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                levels = _levels(image)
    except (OSError, SyntaxError, ValueError, *bombs) as error:
        raise IrpipeError(
            f"{path}: not a readable image ({error}); replace or remove it"
        ) from error
    pixels = torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1)
    # Torch's threads share out the pixels, and where a share ends, rounding is another.
    with single_threaded_torch():
        resized = interpolate(pixels[None], size=SHAPE[1:], mode="bilinear", align_corners=False)[0]
    return (resized + 0.5).floor() / 255


def _levels(image: "Image.Image") -> np.ndarray:
    """Return the levels 0 to 255 of an image, `[H, W, 3]` uint8.

    Of 16 bits, the upper 8 count, as for cv2. PIL takes them itself, except where an image is
    grey: there, convert("RGB") would turn each level above 255 into white.
    """
    if not image.mode.startswith("I"):
        return np.array(image.convert("RGB"))
    grey = (np.array(image) >> 8).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
