"""Restricted ImageNet: nine superclasses of 203 ImageNet classes, from `<root>/{train,val}/<wnid>/*.JPEG`.

`restricted_imagenet.csv` lists the 203: index in ImageNet's order, wnid (the folder's name) and superclass.
Source: Protocol C.1.
"""

import csv
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from irpipe.data import Images, Split, checked
from irpipe.errors import IrpipeError

SHAPE = (3, 224, 224)
CLASSES = ("dog", "cat", "frog", "turtle", "bird", "primate", "fish", "crab", "insect")
RADII: tuple[float, ...] = (0.0, 0.003)
RADIUS = 0.003
VALIDATION = 0  # its validation set is the test set (C.1)
FOLDERS = {"train": "train", "test": "val"}


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read all images of the 203 classes, by wnid and file name: [N, 3, 224, 224] float32, 0.6 MB an image.

    Looks in `<root>`, then in `<root>/restricted_imagenet`; ignores other folders and allows absent ones.
    `download` does nothing: ImageNet asks for an account. Raises IrpipeError if there is no image or one that
    cannot be read.
    """
    with Path(__file__).with_suffix(".csv").open(newline="") as table:
        superclass = {row["wnid"]: row["superclass"] for row in csv.DictReader(table)}
    places = [root / FOLDERS[split], root / "restricted_imagenet" / FOLDERS[split]]
    found = (sorted(p for p in place.glob("*/*.JPEG") if p.parent.name in superclass) for place in places)
    paths = next(filter(None, found), [])
    if not paths:
        where = " or ".join(str(place / "<wnid>") for place in places)
        raise IrpipeError(f"no image of Restricted ImageNet; put them, as *.JPEG, into {where}")
    images = torch.empty(len(paths), *SHAPE)
    for image, path in zip(images, paths, strict=True):
        image.copy_(_read(path))
    labels = torch.tensor([CLASSES.index(superclass[path.parent.name]) for path in paths])
    return checked(images, labels, SHAPE, len(CLASSES), paths[0].parent.parent)


def _read(path: Path) -> Tensor:
    """One image, whole, squeezed to 224x224 by the rule of the released code's cv2.resize.

    That is bilinear between pixel centres, rounded half up: within one level of cv2 5.0.0. PIL's resize,
    which smooths as it shrinks, is up to 29 levels off.
    """
    from PIL import Image

    bombs = (Image.DecompressionBombWarning, Image.DecompressionBombError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG")) as image:  # one of ImageNet's JPEGs is a PNG
                pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)
    except (OSError, SyntaxError, ValueError, *bombs) as error:
        raise IrpipeError(f"{path}: not a readable image ({error}); replace or remove it") from error
    squeezed = interpolate(pixels[None], size=SHAPE[1:], mode="bilinear", align_corners=False)[0]
    return (squeezed + 0.5).floor() / 255
