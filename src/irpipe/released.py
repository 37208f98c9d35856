"""Import of the networks that the paper's authors released: pickled lists of numpy arrays (protocol C.1).

Unpickling runs what a file asks for, so here a file may ask for four numpy names only, and gets stand-ins: numpy's own
take sizes and types from the file that crash the process or fill its memory. `released.csv` lists the SHA-256 of each
file, so that none is read with a wrong weight.
"""

import csv
import functools
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe.data import dataset as dataset_module
from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint
from irpipe.models import build, from_tensors

SOURCE = "github.com/AkhilanB/Proper-Interpretability, MIT"
IMAGE_AXES = 4  # of a convolution's weights; placeholders of pooling layers have two
BROKEN = (  # what unpickling damaged bytes into arrays can raise
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(MemoryError, OverflowError),
)
# numbers, texts, tuples and lists; no mappings or sets, which hash: tuples nested in each other take that for ever
OPCODES = b"\x80\x95.(l]aet)\x85\x86\x87N\x88\x89IJKML\x8aFGVX\x8cSTUBC\x8epqrghj\x94c\x93Rb"


class _Type:
    """Stands in for `numpy.dtype`: floating point only, whatever else the file says of it."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if code not in ("f4", "f8"):
            raise IrpipeError("holds numbers of a type that is not f4 or f8, as released networks have them")
        self.type = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "="):
            raise IrpipeError("holds numbers of no known byte order")
        self.type = self.type.newbyteorder(state[1])


class _Array:
    """Stands in for `numpy.core.multiarray._reconstruct`: an array whose values all stand in the file."""

    value: np.ndarray

    def __init__(self, kind: object, shape: object, code: object) -> None:
        pass  # of an empty array, filled by __setstate__

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, columns_first, raw = state
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        self.value = np.frombuffer(content, kind.type).reshape(shape, order="F" if columns_first else "C").copy()


class _Scalar(_Array):
    """Stands in for `numpy.core.multiarray.scalar`."""

    def __init__(self, kind: _Type, raw: Any) -> None:
        self.__setstate__((1, (), kind, False, raw))


ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _Scalar,
    ("numpy", "ndarray"): None,  # only ever an argument
    ("numpy", "dtype"): _Type,
}


class _Unpickler(pickle._Unpickler):  # the C one takes the size of its memo from the file
    dispatch = {code: pickle._Unpickler.dispatch[code] for code in OPCODES}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise IrpipeError(f"asks for {module}.{name}; released networks hold numpy arrays only, so it was not run")
        return ALLOWED[module, name]


@functools.cache
def official() -> dict[str, str]:
    """SHA-256 of each file that the authors released, by its name."""
    with Path(__file__).with_suffix(".csv").open(newline="") as table:
        return {row["file"]: row["sha256"] for row in csv.DictReader(table)}


def _layers(path: Path, content: bytes) -> list[tuple[np.ndarray, ...]]:
    """The layers of a released file without pooling placeholders: (W, b) in HWIO order, the head as (W,)."""
    try:
        raw = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        if isinstance(raw, list):
            found = [tuple(part.value for part in layer) for layer in raw]
            return [layer for layer in found if layer[0].ndim == IMAGE_AXES]
    except IrpipeError as error:
        raise IrpipeError(f"{path}: {error}") from error
    except BROKEN as error:
        raise IrpipeError(
            f"{path}: not a readable network ({type(error).__name__}: {error}); fetch it again"
        ) from error
    raise IrpipeError(f"{path}: expected a list of (weights, bias) pairs; found {type(raw).__name__}")


def convert(path: Path, dataset: str, data: dict[str, Any], model: str, method: str) -> Checkpoint:
    """Read a released network as a checkpoint of run "released".

    `dataset` is the data set's name and `data` its resolved entry; the file must fit `model` for it. Raises IrpipeError
    naming the file if it is missing, asks for anything but arrays, does not fit, or has the name but not the bytes of
    one that the authors released.
    """
    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected a released network (.pkl)")
    content = path.read_bytes()
    total = hashlib.sha256(content).hexdigest()
    if official().get(path.name, total) != total:
        raise IrpipeError(f"{path}: not the file that was released by this name, its SHA-256 differs; fetch it again")
    module = dataset_module(data["kind"])
    shape, classes = module.SHAPE, len(module.CLASSES)
    *convolutions, head = _layers(path, content) or [()]
    names = [
        name.removesuffix(".weight")
        for name, value in build(model, shape, classes).named_parameters()
        if value.ndim == 4
    ]
    if len(convolutions) != len(names) or len(head) != 1 or any(len(layer) != 2 for layer in convolutions):
        raise IrpipeError(f"{path}: has {len(convolutions)} convolutions; model {model} has {len(names)}, then a head")
    tensors = {"head": _tensor(head[0][0, 0].T, path)}
    for name, (weight, bias) in zip(names, convolutions, strict=True):
        tensors |= {f"{name}.weight": _tensor(weight.transpose(3, 2, 0, 1), path), f"{name}.bias": _tensor(bias, path)}
    from_tensors(model, shape, classes, tensors, str(path))
    metadata = {"dataset": dataset, "data": data, "model": model, "method": method, "run": "released"}
    return Checkpoint(metadata | {"source": SOURCE, "file": path.name, "file_sha256": total}, tensors)


def _tensor(array: np.ndarray, path: Path) -> Tensor:
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise IrpipeError(f"{path}: holds {array.dtype} that are not all finite real numbers; fetch it again")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
