"""Data sets: images in [0, 1] with labels. Each kind is a module of this folder (C.1)."""

import hashlib
import os
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from irpipe.datasets._image_files import ImageFiles, check_range
from irpipe.errors import IrpipeError, no_such
from irpipe.outside_code import import_kind, is_outside

Split = Literal["train", "test"]
HASH_BATCH_SIZE = 64
# The constants of a kind that `DatasetFacts` holds, in its order.
_FACTS = ("SHAPE", "CLASS_NAMES", "EVAL_EPS", "TRAIN_EPS", "N_VALIDATION")


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their labels, in the order of the files.

    `images` `[N, C, H, W]` is floating point in [0, 1], neither normalised nor augmented (C.1).
    It is a tensor or, where that would not fit into memory, `ImageFiles`: both give a tensor for
    `images[rows]`. `labels` `[N]` is int64.
    """

    images: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        """Return N."""
        return len(self.images)

    def part(self, rows: slice, device: torch.device) -> "Images":
        """The images at `rows`. Tensors go to `device`, and files stay unread."""
        if isinstance(self.images, Tensor):
            images: Tensor | ImageFiles = self.images[rows].to(device)
        else:
            images = self.images.part(rows)
        return Images(images, self.labels[rows].to(device))

    def batches(self, rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and the labels of each batch, whose indices are a row of `rows`."""
        # All of them go to the device at once: with each copy, the CPU waits for it.
        indices = torch.from_numpy(rows).to(self.labels.device)
        if isinstance(self.images, Tensor):
            images: Iterator[Tensor] = (self.images[batch] for batch in indices)
        else:
            images = self.images.batches(list(rows))
        for batch in indices:
            yield next(images), self.labels[batch]

    def sha256(self) -> str:
        """Return the SHA-256, in hex, of the types, shapes and bytes of images and labels.

        Files are read, so the first call takes a while. It raises IrpipeError if one is broken.
        """
        return self._sha256

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(_header(self.images))
        if isinstance(self.images, Tensor):
            digest.update(_content(self.images))
        else:
            indices = np.arange(len(self))
            for batch in self.images.batches(
                [indices[i : i + HASH_BATCH_SIZE] for i in indices[::HASH_BATCH_SIZE]]
            ):
                digest.update(_content(batch))
        digest.update(_header(self.labels))
        digest.update(_content(self.labels))
        return digest.hexdigest()


def _header(tensor: Tensor | ImageFiles) -> bytes:
    return f"{tensor.dtype} {tuple(tensor.shape)} ".encode()


def _content(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().reshape(-1).numpy().data


class DatasetFacts(NamedTuple):
    """What is known of a data set before its images are read; see `Dataset`."""

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    eval_eps: tuple[float, ...]
    train_eps: float
    n_validation: int


class Dataset(Protocol):
    """What each module of this folder provides.

    All eps are l-inf bounds in pixel units of [0, 1]. In place of the first five constants, a
    kind may have a function `facts(*, ...) -> DatasetFacts`, which takes the options of `load`.
    """

    # (C, H, W) of one image.
    SHAPE: tuple[int, int, int]
    # The name of each label.
    CLASS_NAMES: tuple[str, ...]
    # C.4: the eps of the published attacks.
    EVAL_EPS: tuple[float, ...]
    # C.2: the eps of training.
    TRAIN_EPS: float
    # C.1: training leaves out the first so many training images, for validation.
    N_VALIDATION: int
    # Optional: the files and folders below `root` that `load` may read, by split, or "{path}",
    # the folder that the option `path` names. The workflow watches them for changes; without it, it
    # watches everything below `root`.
    FILES: dict[str, tuple[str, ...]]

    def load(self, root: Path, split: Split, download: bool = False, **options: Any) -> Images:
        """Read one split from below the folder `root`.

        With `download`, files that are missing are downloaded first. Raises IrpipeError if
        files are missing, broken or cannot be downloaded.
        """


def get_dataset(kind: str) -> Dataset:
    """Return the module `irpipe.datasets.<kind>`, or that of a file `./...` beside the config.

    Raises IrpipeError, naming all kinds, if there is no such module.
    """
    if is_outside(kind):
        return cast(Dataset, import_kind("datasets", kind))
    # `config.kinds` lists the kinds, too. If this module imported it, the hash of every result
    # would depend on the code that checks configs.
    kinds = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if kind not in kinds:
        raise IrpipeError(no_such("dataset kind", kind, kinds))
    return cast(Dataset, import_kind("datasets", kind))


def facts(options: dict[str, Any]) -> DatasetFacts:
    """What is known of a data set, from its resolved entry `{kind, ...}`.

    Raises IrpipeError as `get_dataset` does, or if a folder that the options name is missing.
    """
    module = get_dataset(options["kind"])
    if hasattr(module, "facts"):
        arguments = {key: value for key, value in options.items() if key != "kind"}
        computed: DatasetFacts = module.facts(**arguments)
        return _checked_facts(computed, options["kind"])
    missing = [name for name in _FACTS if not hasattr(module, name)]
    if missing:
        raise IrpipeError(f"{options['kind']}: has no {missing[0]}; expected {', '.join(_FACTS)}")
    return _checked_facts(DatasetFacts(*(getattr(module, n) for n in _FACTS)), options["kind"])


def _checked_facts(known: DatasetFacts, kind: str) -> DatasetFacts:
    """What is known of a data set of `kind`. Raises IrpipeError if its file says it wrongly."""
    if not isinstance(known, DatasetFacts):
        raise IrpipeError(f"{kind}: facts gave a {type(known).__name__}, expected DatasetFacts")
    shape, names, eval_eps, train_eps, n_validation = known
    is_shape = _are(int, shape) and len(shape) == 3 and min(shape) > 0
    is_names = _are(str, names) and len(set(names)) == len(names) > 1
    is_eps = _are(int | float, eval_eps) and all(0 <= eps <= 1 for eps in eval_eps)
    is_number = isinstance(train_eps, int | float) and 0 <= train_eps <= 1
    is_count = isinstance(n_validation, int) and n_validation >= 0
    rules = {
        "SHAPE": (is_shape, shape, "(C, H, W), such as (1, 28, 28)"),
        "CLASS_NAMES": (is_names, names, "two different texts or more, such as ('no', 'yes')"),
        "EVAL_EPS": (is_eps, eval_eps, "numbers from 0 to 1, such as (0.0, 0.1)"),
        "TRAIN_EPS": (is_number, train_eps, "a number from 0 to 1"),
        "N_VALIDATION": (is_count, n_validation, "a whole number from 0"),
    }
    for name, (is_right, found, expected) in rules.items():
        if not is_right:
            raise IrpipeError(f"{kind}: {name} is {reprlib.repr(found)}, expected {expected}")
    return DatasetFacts(
        (shape[0], shape[1], shape[2]), tuple(names), tuple(eval_eps), train_eps, n_validation
    )


def _are(types: Any, values: Any) -> bool:
    """Whether `values` is a list or tuple of one or more values of these types."""
    is_list = isinstance(values, list | tuple) and len(values) > 0
    return is_list and all(isinstance(value, types) for value in values)


def load(options: dict[str, Any], root: Path, split: Split, download: bool = False) -> Images:
    """Load one split of a data set, as `Dataset.load` does.

    `options` is its resolved entry `{kind, ...}`. The kinds of irpipe check what they read. What a
    file next to the config gives is checked here: raises IrpipeError as `validated_images` does.
    """
    arguments = {key: value for key, value in options.items() if key != "kind"}
    loaded = get_dataset(options["kind"]).load(root, split, download, **arguments)
    if not is_outside(options["kind"]):
        return loaded
    known, location = facts(options), f"{options['kind']}, {split} images"
    if not isinstance(loaded, Images):
        raise IrpipeError(f"{location}: load gave a {type(loaded).__name__}, expected Images")
    n_classes = len(known.class_names)
    if isinstance(loaded.images, ImageFiles):
        _check_labels(loaded.labels, loaded.images, known.shape, n_classes, location)
        return Images(loaded.images, loaded.labels.long())
    return validated_images(loaded.images, loaded.labels, known.shape, n_classes, location)


def data_root(argument: str | Path | None) -> Path:
    """Return the folder that holds the data sets.

    That is `argument` or, if it is None or empty, the environment's IRPIPE_DATA, else `data`.
    """
    return Path(argument or os.environ.get("IRPIPE_DATA") or "data").expanduser()


def validated_images(
    images: Tensor,
    labels: Tensor,
    shape: tuple[int, int, int],
    n_classes: int,
    location: str | Path,
) -> Images:
    """Return `Images` with int64 labels if types, count, shape, range and labels are correct.

    `shape` is (C, H, W). Else raises IrpipeError, naming `location`.
    """
    _check_types(images, location)
    _check_labels(labels, images, shape, n_classes, location)
    check_range(images, location)
    return Images(images.detach().contiguous(), labels.long())


def _check_labels(
    labels: Any,
    images: Tensor | ImageFiles,
    shape: tuple[int, int, int],
    n_classes: int,
    location: str | Path,
) -> None:
    """Raise IrpipeError unless there is one label of the classes for each image of `shape`."""
    _check_whole(labels, location)
    n_labels = len(labels)
    if n_labels == 0 or tuple(images.shape) != (n_labels, *shape):
        expected = [n_labels or "N", *shape]
        raise IrpipeError(
            f"{location}: images of shape {list(images.shape)} for {n_labels} labels, "
            f"expected {expected}"
        )
    first, last = (int(bound) for bound in labels.aminmax())
    if first < 0 or last >= n_classes:
        raise IrpipeError(
            f"{location}: labels from {first} to {last}, expected 0 to {n_classes - 1}"
        )


def _require_tensor(name: str, value: Any, location: str | Path) -> None:
    if not isinstance(value, Tensor):
        type_name = type(value).__name__
        raise IrpipeError(f"{location}: {name} of type {type_name}, expected a torch.Tensor")


def _check_types(images: Any, location: str | Path) -> None:
    """Raise IrpipeError unless images are float32 or float64."""
    _require_tensor("images", images, location)
    if images.dtype not in (torch.float32, torch.float64):
        raise IrpipeError(
            f"{location}: images of {images.dtype}, expected torch.float32 or torch.float64 in "
            "[0, 1]; divide levels of 0 to 255 by 255"
        )


def _check_whole(labels: Any, location: str | Path) -> None:
    """Raise IrpipeError unless labels are whole numbers `[N]`."""
    _require_tensor("labels", labels, location)
    is_whole = not (labels.is_floating_point() or labels.is_complex())
    if not is_whole or labels.dim() != 1:
        raise IrpipeError(
            f"{location}: labels of {labels.dtype} and shape {list(labels.shape)}, expected whole "
            "numbers of shape [N]"
        )
