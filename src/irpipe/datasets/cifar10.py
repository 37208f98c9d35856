"""CIFAR-10, from its official binary files or from torchvision's copy of the Python ones (C.1)."""

from pathlib import Path

import numpy as np
import torch

from irpipe.datasets import Images, Split, validated_images
from irpipe.datasets._downloads import download_folder, explain_errors, read_verified
from irpipe.errors import IrpipeError

SHAPE = (3, 32, 32)
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
EVAL_EPS: tuple[float, ...] = (0.0, 2 / 255, 4 / 255, 6 / 255, 8 / 255)
TRAIN_EPS = 8 / 255
N_VALIDATION = 5000
FILES = {
    "train": ("cifar-10-batches-bin", "cifar-10-batches-py"),
    "test": ("cifar-10-batches-bin", "cifar-10-batches-py"),
}
PYTHON_FOLDER = "cifar-10-batches-py"
BINARY_FILES = {
    "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("test_batch.bin",),
}
SHA256 = {
    "data_batch_1.bin": ["cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"],
    "data_batch_2.bin": ["a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"],
    "data_batch_3.bin": ["bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"],
    "data_batch_4.bin": ["014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"],
    "data_batch_5.bin": ["755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"],
    "test_batch.bin": [
        # The official file.
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        # A copy in which 20 images, none of them the paper's, went through JPEG.
        "123ca0dad8f960344d9149742165d4215093c84c8c4bdc5922af93b614bdb501",
    ],
}
RECORDS_PER_FILE = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32  # a label and the pixels


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read the 50,000 training images, float32, or the 10,000 test images, float64.

    Images are `[N, 3, 32, 32]`. They are read from `<root>/cifar-10-batches-bin` if that folder
    exists. Else torchvision reads `<root>/cifar-10-batches-py`, verifies its checksums and, with
    `download`, downloads it first.

    Raises IrpipeError if a file is missing, is not the published one, or cannot be downloaded.
    """
    folder = root / "cifar-10-batches-bin"
    if folder.is_dir():
        labels, pixels = _read_binary(folder, split)
    else:
        labels, pixels = _read_python(root, split, download)
    # C.1: the released code tests CIFAR in float64 although it trains in float32.
    dtype = torch.float32 if split == "train" else torch.float64
    # NumPy's memory for so many numbers costs the system four times as much time.
    images = torch.tensor(pixels, dtype=dtype).div_(255)
    return validated_images(images, torch.from_numpy(labels), SHAPE, len(CLASS_NAMES), root)


def _read_binary(folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return labels `[N]` int64 and pixels `[N, 3, 32, 32]` uint8 of the official binary files.

    A file is a sequence of records, each a byte for the label and 3,072 for the pixels.
    """
    names = BINARY_FILES[split]
    remedy = f"put {', '.join(names)} of cifar-10-binary.tar.gz into {folder}"
    size = RECORDS_PER_FILE * RECORD_BYTES
    content = b"".join(read_verified(folder / name, size, SHA256[name], remedy) for name in names)
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    return records[:, 0].astype(np.int64), records[:, 1:].reshape(-1, *SHAPE)


def _read_python(root: Path, split: Split, download: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and pixels, as `_read_binary` does, of the official Python files.

    torchvision reads them, and unpickles no file whose checksum is not the official one.
    """
    remedy = f"put the folder cifar-10-batches-bin or {PYTHON_FOLDER} into {root}"
    is_missing = not (root / PYTHON_FOLDER).is_dir()
    if is_missing and not download:
        raise IrpipeError(
            f"{root}: no CIFAR-10 here; {remedy} or fetch it with 'download: true' in a config "
            "or `irpipe data --download`"
        )

    from irpipe.datasets._torchvision import torchvision

    if is_missing:
        with download_folder("CIFAR-10", root, remedy) as folder:
            torchvision.datasets.CIFAR10(folder, download=True)
            (folder / PYTHON_FOLDER).replace(root / PYTHON_FOLDER)
    with explain_errors("CIFAR-10", remedy):
        data = torchvision.datasets.CIFAR10(root, train=split == "train")
    return np.asarray(data.targets, dtype=np.int64), data.data.transpose(0, 3, 1, 2)
