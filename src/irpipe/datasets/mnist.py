"""MNIST, from its original idx files in `<root>/MNIST/raw`, where torchvision puts them (C.1)."""

import math
from pathlib import Path

import numpy as np
import torch

from irpipe.datasets import Images, Split, validated_images
from irpipe.datasets._downloads import download_folder, read_verified

SHAPE = (1, 28, 28)
CLASS_NAMES = tuple("0123456789")
EVAL_EPS: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
TRAIN_EPS = 0.3
N_VALIDATION = 5000
FILES = {"train": ("MNIST/raw",), "test": ("MNIST/raw",)}
# The prefix of the file names and the number of images.
SPLITS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
# Of the unpacked files. Their MD5 are those that other projects publish.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read the 60,000 training or the 10,000 test images, `[N, 1, 28, 28]` float32.

    With `download`, torchvision downloads missing files and verifies their checksums. Raises
    IrpipeError if a file of this split is missing, is not the published one, or cannot be
    downloaded.
    """
    folder = root / "MNIST" / "raw"
    prefix, n_images = SPLITS[split]
    pixel_file = folder / f"{prefix}-images-idx3-ubyte"
    label_file = folder / f"{prefix}-labels-idx1-ubyte"
    remedy = f"put {pixel_file.name} and {label_file.name}, unpacked, into {folder}"
    if download and not (pixel_file.is_file() and label_file.is_file()):
        _download(root, folder, remedy)
    remedy += " or fetch them with 'download: true' in a config or `irpipe data --download`"
    labels = _read_idx(label_file, (n_images,), remedy)
    levels = _read_idx(pixel_file, (n_images, *SHAPE[1:]), remedy)
    pixels = torch.tensor(levels, dtype=torch.float32).div_(255)
    # C.1: the released code computes x/255 - 0.5 + 0.5, which changes 63 of the 256 levels.
    images = pixels.sub_(0.5).add_(0.5)[:, None]
    return validated_images(
        images, torch.from_numpy(labels.astype(np.int64)), SHAPE, len(CLASS_NAMES), folder
    )


def _download(root: Path, folder: Path, remedy: str) -> None:
    """Download all four files into `folder`, which lies below `root`."""
    from irpipe.datasets._torchvision import torchvision

    with download_folder("MNIST", root, remedy) as temporary:
        torchvision.datasets.MNIST(temporary, download=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name in SHA256:
            (temporary / "MNIST" / "raw" / name).replace(folder / name)


def _read_idx(path: Path, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """Return the content of an idx file as uint8 of this shape.

    The file begins with 4 bytes for its type and 4 for the size of each axis.
    """
    header_bytes = 4 * (1 + len(shape))
    size = header_bytes + math.prod(shape)
    content = read_verified(path, size, [SHA256[path.name]], remedy)
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
