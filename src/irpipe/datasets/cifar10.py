"""CIFAR-10, from its official binary files or from torchvision's copy of the Python ones (Protocol C.1)."""

from pathlib import Path

import numpy as np
import torch

from irpipe.data import Images, Split, checked, explained, fetching, read_exactly
from irpipe.errors import IrpipeError

SHAPE = (3, 32, 32)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RADII: tuple[float, ...] = (0.0, 2 / 255, 4 / 255, 6 / 255, 8 / 255)
RADIUS = 8 / 255
VALIDATION = 5000
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
SUMS = {  # SHA-256
    "data_batch_1.bin": ["cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"],
    "data_batch_2.bin": ["a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"],
    "data_batch_3.bin": ["bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"],
    "data_batch_4.bin": ["014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"],
    "data_batch_5.bin": ["755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"],
    "test_batch.bin": [
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",  # as published
        "123ca0dad8f960344d9149742165d4215093c84c8c4bdc5922af93b614bdb501",  # 20 images, none of the paper's, as JPEG
    ],
}
RECORDS, RECORD = 10_000, 1 + 3 * 32 * 32


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Read the 50,000 training images, [N, 3, 32, 32] float32, or the 10,000 test images, float64.

    Reads `<root>/cifar-10-batches-bin` if there is such a folder, else `<root>/cifar-10-batches-py` by
    torchvision, which checks the checksums and, with `download`, fetches it. Raises IrpipeError if a file is
    missing, is not the published one, or cannot be fetched.
    """
    folder = root / "cifar-10-batches-bin"
    labels, pixels = _binary(folder, split) if folder.is_dir() else _python(root, split, download)
    # The released code tests CIFAR in float64 although it trains in float32 (C.1).
    images = np.divide(pixels, 255, dtype=np.float32 if split == "train" else np.float64)
    return checked(torch.from_numpy(images), torch.from_numpy(labels), SHAPE, len(CLASSES), root)


def _binary(folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] int64 and pixels [N, 3, 32, 32] uint8 from records of one label and 3,072 pixels."""
    remedy = f"put {', '.join(FILES[split])} of cifar-10-binary.tar.gz into {folder}"
    content = b"".join(read_exactly(folder / name, RECORDS * RECORD, SUMS[name], remedy) for name in FILES[split])
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return records[:, 0].astype(np.int64), records[:, 1:].reshape(-1, *SHAPE)


def _python(root: Path, split: Split, download: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same from torchvision, which unpickles nothing whose checksum is not the official one."""
    remedy, folder = f"put the folder cifar-10-batches-bin or cifar-10-batches-py into {root}", "cifar-10-batches-py"
    missing = not (root / folder).is_dir()
    if missing and not download:
        raise IrpipeError(f"{root}: no CIFAR-10 here; {remedy} or fetch it with 'download: true' (--download)")
    from irpipe._torchvision import torchvision

    if missing:
        with fetching("CIFAR-10", root, remedy) as fresh:
            torchvision.datasets.CIFAR10(fresh, download=True)
            (fresh / folder).replace(root / folder)
    with explained("CIFAR-10", remedy):
        data = torchvision.datasets.CIFAR10(root, train=split == "train")
    return np.asarray(data.targets, dtype=np.int64), data.data.transpose(0, 3, 1, 2)
