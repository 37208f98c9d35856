"""Images of one's own: a folder per class, as torchvision's ImageFolder has it.

The images are `<path>/train/<class>/*` and `<path>/test/<class>/*` (or `val`), as PNG or JPEG. A
folder `<path>/<class>/*` without such a division holds test images only.
"""

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from irpipe.datasets import DatasetFacts, Images, Split
from irpipe.datasets._image_files import ImageFiles
from irpipe.errors import IrpipeError
from irpipe.option_types import Count, CountOrZero, Eps, EpsList, Folder, Names

if TYPE_CHECKING:
    from PIL import Image

SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val")}
# What the workflow watches: everything below the option `path`.
FILES = {"train": ("{path}",), "test": ("{path}",)}
SUFFIXES = (".png", ".jpg", ".jpeg")
# The usual bounds for photographs.
EVAL_EPS = (0.0, 2 / 255, 4 / 255, 8 / 255)
TRAIN_EPS = 8 / 255
ORDER_SEED = 0


def facts(
    *,
    path: Folder,
    size: Count,
    channels: Literal[1, 3] = 3,
    classes: Names | None = None,
    eps: EpsList | None = None,
    train_eps: Eps | None = None,
    validation: CountOrZero = 0,
) -> DatasetFacts:
    """What the options say. Raises IrpipeError if the folders and `classes` name no two classes."""
    names = classes or _class_folders(Path(path).expanduser())
    if len(names) < 2:
        raise IrpipeError(f"{path}: has one class, {names[0]}; a classifier needs two or more")
    if len(set(names)) < len(names):
        raise IrpipeError(f"data set option classes: has a name twice; found {', '.join(names)}")
    eval_eps = tuple(eps or EVAL_EPS)
    default = max(eval_eps) if eps else TRAIN_EPS
    bound = default if train_eps is None else train_eps
    return DatasetFacts((channels, size, size), tuple(names), eval_eps, bound, validation)


def load(
    root: Path,
    split: Split,
    download: bool = False,
    *,
    # The folder, from the current one if it is relative; `data` has no effect.
    path: Folder,
    # Images are resized so that their shorter side has this length, and cropped to their centre.
    size: Count,
    # 1 makes images grey.
    channels: Literal[1, 3] = 3,
    # All classes, in the order of the labels; None means the folders' names, sorted.
    classes: Names | None = None,
    # l-inf bounds of attacks that name none; None means 0, 2/255, 4/255, 8/255.
    eps: EpsList | None = None,
    # l-inf bound of training and of the signs of masking; None means the largest `eps`.
    train_eps: Eps | None = None,
    # Training images that are held out.
    validation: CountOrZero = 0,
) -> Images:
    """Find the images of one split, `[N, channels, size, size]` float32.

    They stay in their files until they are asked for (`ImageFiles`), and then raise IrpipeError if
    one cannot be read. Test images are sorted by class and file name. Training images are in a
    fixed random order, so that those held out are of all classes. `download` has no effect.

    Raises IrpipeError if a folder is missing or is of no class, or if a file is no PNG or JPEG.
    """
    folder = Path(path).expanduser()
    names = classes or _class_folders(folder)
    files = _image_files(_split_folder(folder, split), names)
    if split == "train":
        order = np.random.RandomState(ORDER_SEED).permutation(len(files))
        files = [files[index] for index in order]
    shape = (channels, size, size)
    labels = torch.tensor([names.index(file.parent.name) for file in files])
    return Images(ImageFiles(files, partial(_read_image, shape=shape), shape), labels)


def _folders(folder: Path) -> list[Path]:
    """The folders in `folder` that are not hidden, sorted by name."""
    if not folder.is_dir():
        raise IrpipeError(f"{folder}: no such folder; expected a folder of images per class")
    return sorted(item for item in folder.iterdir() if item.is_dir() and item.name[0] != ".")


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split that exists; empty if `folder` has no division."""
    return {
        split: folder / name
        for split, names in SPLIT_FOLDERS.items()
        for name in reversed(names)
        if (folder / name).is_dir()
    }


def _split_folder(folder: Path, split: Split) -> Path:
    splits = _split_folders(folder)
    if split in splits:
        return splits[split]
    if splits or split == "train":
        raise IrpipeError(
            f"{folder}: has no folder '{split}'; put images into {folder / split}/<class>"
        )
    return folder


def _class_folders(folder: Path) -> list[str]:
    """The names of all classes, which are the names of folders in any split."""
    parents = list(_split_folders(folder).values()) or [folder]
    names = sorted({item.name for parent in parents for item in _folders(parent)})
    if not names:
        place = " and ".join(map(str, parents))
        raise IrpipeError(f"{place}: has no folder; put images into {parents[0]}/<class>")
    return names


def _image_files(folder: Path, names: list[str]) -> list[Path]:
    """The files of all classes, sorted by class and name."""
    files: list[Path] = []
    for item in _folders(folder):
        if item.name not in names:
            raise IrpipeError(f"{item}: a folder of none of the classes {', '.join(names)}")
        files += sorted(file for file in item.iterdir() if file.name[0] != ".")
    for file in files:
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            raise IrpipeError(f"{file}: not a PNG or JPEG file; move it elsewhere")
    if not files:
        raise IrpipeError(f"{folder}: has no image; put them into {folder}/<class>")
    return sorted(files, key=lambda file: (names.index(file.parent.name), file.name))


def _read_image(file: Path, shape: tuple[int, int, int]) -> Tensor:
    """One image of `shape` (C, H, W), float32 in [0, 1], resized and cropped to its centre.

    Raises IrpipeError if the file cannot be read.
    """
    from PIL import Image

    from irpipe.datasets._torchvision import torchvision

    transforms = torchvision.transforms
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of palettes with transparency, which is dropped.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("JPEG", "PNG")) as image:
                levels = _levels(image, channels=shape[0])
    except Exception as error:  # PIL raises more than it documents at damaged files.
        raise IrpipeError(
            f"{file}: not a readable image ({error}); replace or remove it"
        ) from error
    resize = transforms.Compose([transforms.Resize(shape[1]), transforms.CenterCrop(shape[1])])
    resized: Tensor = resize(torch.from_numpy(levels).permute(2, 0, 1))
    return resized.float() / 255


def _levels(image: "Image.Image", channels: int) -> np.ndarray:
    """The levels of an image, `[H, W, channels]` uint8; of 16 bits, the upper 8.

    PIL's own conversion turns each level of a grey image above 255 into white.
    """
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    levels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return levels.reshape(*levels.shape[:2], channels)
