"""MNIST, from its original idx files in `<root>/MNIST/raw`, where torchvision puts them (Protocol C.1)."""

import math
from pathlib import Path

import numpy as np
import torch

from irpipe.data import Images, Split, checked, fetching, read_exactly

SHAPE = (1, 28, 28)
CLASSES = tuple("0123456789")
RADII: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
RADIUS = 0.3
VALIDATION = 5000
FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}
SUMS = {  # SHA-256 of the files, unpacked; their MD5 are those that others publish
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read the 60,000 training or the 10,000 test images, [N, 1, 28, 28] float32.

    With `download`, torchvision fetches missing files and checks their checksums. Raises IrpipeError if a
    file of this split is missing, is not the published one, or cannot be fetched.
    """
    folder = root / "MNIST" / "raw"
    prefix, count = FILES[split]
    pixel_file, label_file = folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"
    remedy = f"put {pixel_file.name} and {label_file.name}, unpacked, into {folder}"
    if download and not (pixel_file.is_file() and label_file.is_file()):
        from irpipe._torchvision import torchvision

        with fetching("MNIST", root, remedy) as fresh:
            torchvision.datasets.MNIST(fresh, download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for name in SUMS:
                (fresh / "MNIST" / "raw" / name).replace(folder / name)
    remedy += " or fetch them with 'download: true' (--download)"
    labels = _read(label_file, (count,), remedy)
    pixels = np.divide(_read(pixel_file, (count, *SHAPE[1:]), remedy), 255, dtype=np.float32)
    # The released code shifts to [-.5,.5] and back, which in float32 moves 63 of the 256 levels (C.1).
    images = torch.from_numpy(pixels - 0.5 + 0.5)[:, None]
    return checked(images, torch.from_numpy(labels.astype(np.int64)), SHAPE, len(CLASSES), folder)


def _read(path: Path, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """The bytes of an idx file of this shape, behind its header: a type and a size for each axis, of 4 bytes each."""
    header = 4 * (1 + len(shape))
    content = read_exactly(path, header + math.prod(shape), [SUMS[path.name]], remedy)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
