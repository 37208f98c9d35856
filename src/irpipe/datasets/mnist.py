"""MNIST, from its original idx files in `<root>/MNIST/raw`, where torchvision puts them (Protocol C.1)."""

import math
import struct
from pathlib import Path

import numpy as np
import torch

from irpipe.data import Images, Split, checked, fetching, read_exactly
from irpipe.errors import IrpipeError

SHAPE = (1, 28, 28)
CLASSES = tuple("0123456789")
RADII: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3)
RADIUS = 0.3
VALIDATION = 5000
FILES = {"train": ("train", 60_000), "test": ("t10k", 10_000)}


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read the 60,000 training or the 10,000 test images, [N, 1, 28, 28] float32.

    With `download`, torchvision fetches missing files and checks their checksums. Raises IrpipeError if a
    file of this split is missing, has another size or header, or cannot be fetched.
    """
    folder = root / "MNIST" / "raw"
    prefix, count = FILES[split]
    pixel_file, label_file = folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"
    remedy = f"put {pixel_file.name} and {label_file.name}, unpacked, into {folder}"
    if download and not (pixel_file.is_file() and label_file.is_file()):
        from irpipe._torchvision import torchvision

        with fetching("MNIST", remedy):
            torchvision.datasets.MNIST(root, download=True)
    remedy += " or fetch them with 'download: true' (--download)"
    labels = _read(label_file, (count,), remedy)
    pixels = np.divide(_read(pixel_file, (count, *SHAPE[1:]), remedy), 255, dtype=np.float32)
    # The released code shifts to [-.5,.5] and back, which in float32 moves 63 of the 256 levels (C.1).
    images = torch.from_numpy(pixels - 0.5 + 0.5)[:, None]
    return checked(images, torch.from_numpy(labels.astype(np.int64)), SHAPE, len(CLASSES), folder)


def _read(path: Path, shape: tuple[int, ...], remedy: str) -> np.ndarray:
    """Read an idx file of bytes: 0x800 + number of axes, then the axes, big-endian, then the values."""
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    content = read_exactly(path, len(header) + math.prod(shape), remedy)
    if not content.startswith(header):
        found = content[: len(header)].hex()
        raise IrpipeError(f"{path}: idx header {found}, expected {header.hex()}; remove it, then {remedy}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
