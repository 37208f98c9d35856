"""What a data set is: images in [0,1] with labels, and a module in `datasets/` that loads them.

Source: Protocol C.1.
"""

import difflib
import hashlib
import importlib
import os
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from torch import Tensor

from irpipe.errors import IrpipeError

Split = Literal["train", "test"]
SILENCE = 30.0  # seconds after which a server that sends nothing is given up


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels, in the order of the files.

    `images` is [N, C, H, W], floating point, in [0,1], neither normalised nor augmented (Protocol C.1);
    `labels` is [N], int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return N."""
        return len(self.images)

    def sha256(self) -> str:
        """Hash, in hex, of the types, shapes and bytes of images and labels."""
        total = hashlib.sha256()
        for tensor in (self.images, self.labels):
            total.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            total.update(tensor.cpu().contiguous().reshape(-1).numpy().data)
        return total.hexdigest()


class Dataset(Protocol):
    """What each module in `irpipe.datasets` provides.

    `SHAPE` is (C, H, W) of one image and `CLASSES` are the names of the labels. `RADII` are the radii of the
    published attacks and `RADIUS` is the one of training (linf, in pixel units of [0,1]; Protocol C.2, C.4).
    The first `VALIDATION` training images are held out of training (Protocol C.1).
    """

    SHAPE: tuple[int, int, int]
    CLASSES: tuple[str, ...]
    RADII: tuple[float, ...]
    RADIUS: float
    VALIDATION: int

    def load(self, root: Path, split: Split, download: bool = False, **options: Any) -> Images:
        """Read one split from below `root`, fetching it first if it is missing and `download` is set.

        Raises IrpipeError if files are missing, broken or cannot be fetched.
        """


def dataset(kind: str) -> Dataset:
    """Return the module `irpipe.datasets.<kind>`; raise IrpipeError, naming the kinds, if there is none."""
    # Listed here and not by `irpipe.spec`, so that results do not depend on the code that checks configs.
    kinds = sorted(path.stem for path in Path(__file__).with_name("datasets").glob("[!_]*.py"))
    if kind not in kinds:
        near = difflib.get_close_matches(kind, kinds, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise IrpipeError(f"no dataset kind '{kind}'; have: {', '.join(kinds)}{hint}")
    return cast(Dataset, importlib.import_module(f"irpipe.datasets.{kind}"))


def load(spec: dict[str, Any], root: Path, split: Split, download: bool = False) -> Images:
    """Load one split of the data set that a resolved entry `{kind, ...options}` means; see `Dataset.load`."""
    options = {key: value for key, value in spec.items() if key != "kind"}
    return dataset(spec["kind"]).load(root, split, download, **options)


def data_root(given: str | Path | None) -> Path:
    """Folder that holds the data sets: `given`, else the environment's IRPIPE_DATA, else `data`."""
    return Path(given or os.environ.get("IRPIPE_DATA") or "data").expanduser()


def read_exactly(path: Path, size: int, sums: Collection[str], remedy: str) -> bytes:
    """Read a file of `size` bytes with one of these SHA-256, in hex; else raise IrpipeError, ending in `remedy`."""
    if not path.is_file():
        raise IrpipeError(f"{path}: missing; {remedy}")
    found = path.stat().st_size
    if found != size:
        raise IrpipeError(f"{path}: found {found} bytes, expected {size}; remove it, then {remedy}")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() not in sums:
        raise IrpipeError(f"{path}: not the published file, its SHA-256 differs; remove it, then {remedy}")
    return content


@contextmanager
def explained(name: str, remedy: str) -> Iterator[None]:
    """Turn what torchvision raises when files are missing, broken or out of reach into one IrpipeError."""
    try:
        yield
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        raise IrpipeError(f"{name}: {' '.join(str(error).split())}; {remedy}") from error


@contextmanager
def fetching(name: str, root: Path, remedy: str) -> Iterator[Path]:
    """Yield a folder below `root` to download into; what is not moved out of it is removed in the end.

    Raises IrpipeError, ending in `remedy`, if the download fails or the server falls silent.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        with explained(name, remedy):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".download.") as folder:
                yield Path(folder)
    finally:
        socket.setdefaulttimeout(before)


def checked(images: Tensor, labels: Tensor, shape: tuple[int, int, int], classes: int, where: str | Path) -> Images:
    """Return `Images` if count, shape, range and labels are right, else raise IrpipeError naming `where`."""
    if len(labels) == 0 or images.shape != (len(labels), *shape):
        found, expected = list(images.shape), [len(labels) or "N", *shape]
        raise IrpipeError(f"{where}: images of shape {found} for {len(labels)} labels, expected {expected}")
    low, high = (bound.item() for bound in images.aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails both, too
        raise IrpipeError(f"{where}: pixels from {low:g} to {high:g}, expected 0 to 1")
    first, last = (int(bound) for bound in labels.aminmax())
    if first < 0 or last >= classes:
        raise IrpipeError(f"{where}: labels from {first} to {last}, expected 0 to {classes - 1}")
    return Images(images, labels.long())
