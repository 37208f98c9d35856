"""Read the networks that the paper's authors released: pickled lists of numpy arrays (C.1).

Nothing here affects a number. The arrays become weights as they are, or the file is refused.

Unpickling runs what a file asks for. So a file may ask for four numpy names only, and it gets
stand-ins for them: numpy's own take sizes and types from the file that crash the process or fill
its memory. `released.csv` lists the SHA-256 of each file, so no file is read with a wrong weight.
"""

import csv
import functools
import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe.datasets import facts
from irpipe.errors import IrpipeError
from irpipe.networks.architectures import build, build_with_weights
from irpipe.networks.checkpoint import Checkpoint

SOURCE = "github.com/AkhilanB/Proper-Interpretability, MIT"
WEIGHT_AXES = 4  # of a convolution; the placeholders of pooling layers have two
# What unpickling damaged bytes into arrays can raise.
UNPICKLING_ERRORS = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(MemoryError, OverflowError),
)
# Numbers, texts, tuples and lists. Not mappings and sets: these hash their entries, which takes
# for ever for tuples nested in each other.
ALLOWED_OPCODES = (
    b"\x80\x95.(l]aet)\x85\x86\x87N\x88\x89IJKML\x8aFGVX\x8cSTUBC\x8epqrghj\x94c\x93Rb"
)


class _Dtype:
    """Stands in for `numpy.dtype`. It is floating point, whatever else the file says of it."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if code not in ("f4", "f8"):
            raise IrpipeError(
                "holds numbers of a type that is not f4 or f8, as released networks have them"
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "="):
            raise IrpipeError("holds numbers of no known byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for `numpy.core.multiarray._reconstruct`. All of its values are in the file."""

    value: np.ndarray

    def __init__(self, array_class: object, shape: object, code: object) -> None:
        pass  # These describe an empty array. __setstate__ gets the values.

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, stand_in, is_fortran_order, data = state
        content = data.encode("latin1") if isinstance(data, str) else data
        self.value = (
            np.frombuffer(content, stand_in.dtype)
            .reshape(shape, order="F" if is_fortran_order else "C")
            .copy()
        )


class _Scalar(_Array):
    """Stands in for `numpy.core.multiarray.scalar`."""

    def __init__(self, stand_in: _Dtype, data: Any) -> None:
        self.__setstate__((1, (), stand_in, False, data))


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy", "ndarray"): None,  # Files use it as an argument only.
    ("numpy", "dtype"): _Dtype,
}


# Python's unpickler and not the C one, which takes the size of its memo from the file.
class _Unpickler(pickle._Unpickler):
    dispatch = {code: pickle._Unpickler.dispatch[code] for code in ALLOWED_OPCODES}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of an allowed name; raise IrpipeError for any other."""
        if (module, name) not in STAND_INS:
            raise IrpipeError(
                f"asks for {module}.{name}; released networks hold numpy arrays only, "
                "so it was not run"
            )
        return STAND_INS[module, name]


@functools.cache
def released_sha256() -> dict[str, str]:
    """Return the SHA-256 of each file that the authors released, by its name."""
    with Path(__file__).with_suffix(".csv").open(newline="", encoding="utf-8") as table:
        return {row["file"]: row["sha256"] for row in csv.DictReader(table)}


def read_released(
    path: Path, dataset: str, data: dict[str, Any], model: str, method: str
) -> Checkpoint:
    """Read a released network as a checkpoint of the run "released".

    `dataset` is the name of the data set and `data` its resolved entry. The file must fit
    `model` for that data set.

    Raises IrpipeError, naming the file, if it is missing, asks for anything but arrays, does
    not fit, or has the name but not the content of a file that the authors released.
    """
    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected a released network (.pkl)")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if released_sha256().get(path.name, sha256) != sha256:
        raise IrpipeError(
            f"{path}: not the file that was released by this name, its SHA-256 differs; "
            "fetch it again"
        )
    data_facts = facts(data)
    n_classes = len(data_facts.class_names)
    weights = _read_weights(path, content, model, data_facts.shape, n_classes)
    # This raises an error if the weights do not fit the model.
    build_with_weights(model, data_facts.shape, n_classes, weights, str(path))
    metadata = {
        "dataset": dataset,
        "data": data,
        "model": model,
        "method": method,
        "run": "released",
        "source": SOURCE,
        "file": path.name,
        "file_sha256": sha256,
    }
    return Checkpoint(metadata, weights)


def _read_weights(
    path: Path, content: bytes, model: str, shape: Sequence[int], n_classes: int
) -> dict[str, Tensor]:
    """Return the weights in a released file by their names in `model`, in PyTorch's layout.

    C.1: the file has a pair (W, b) for each convolution, W in the order height, width, inputs,
    outputs, and last the head (W,), `[1, 1, channels, classes]`.
    """
    *convolutions, head = _read_layers(path, content) or [()]
    names = [
        name.removesuffix(".weight")
        for name, weight in build(model, shape, n_classes).named_parameters()
        if weight.ndim == WEIGHT_AXES
    ]
    all_are_pairs = all(len(layer) == 2 for layer in convolutions)
    if len(convolutions) != len(names) or len(head) != 1 or not all_are_pairs:
        raise IrpipeError(
            f"{path}: has {len(convolutions)} convolutions; "
            f"model {model} has {len(names)}, then a head"
        )
    weights = {"head": _tensor(head[0][0, 0].T, path)}
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        weights[f"{name}.weight"] = _tensor(weight.transpose(3, 2, 0, 1), path)
        weights[f"{name}.bias"] = _tensor(bias, path)
    return weights


def _read_layers(path: Path, content: bytes) -> list[tuple[np.ndarray, ...]]:
    """Return the arrays of each layer of a released file, without the pooling layers."""
    try:
        unpickled = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if isinstance(unpickled, list):
            layers = [tuple(array.value for array in layer) for layer in unpickled]
            return [layer for layer in layers if layer[0].ndim == WEIGHT_AXES]
    except IrpipeError as error:
        raise IrpipeError(f"{path}: {error}") from error
    except UNPICKLING_ERRORS as error:
        raise IrpipeError(
            f"{path}: not a readable network ({type(error).__name__}: {error}); fetch it again"
        ) from error
    type_name = type(unpickled).__name__
    raise IrpipeError(f"{path}: expected a list of (weights, bias) pairs; found {type_name}")


def _tensor(array: np.ndarray, path: Path) -> Tensor:
    """Return an array of finite numbers as float32; raise IrpipeError for any other array."""
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise IrpipeError(
            f"{path}: holds {array.dtype} that are not all finite real numbers; fetch it again"
        )
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
