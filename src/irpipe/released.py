"""Import of the networks that the paper's authors released: pickled lists of numpy arrays (protocol C.1).

Nothing is unpickled but four numpy names, and arrays are all that may come out; whatever else a file asks for is
refused before it runs.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe.data import dataset as dataset_module
from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint, file_sha256
from irpipe.models import build, from_tensors

SOURCE = "github.com/AkhilanB/Proper-Interpretability, MIT"
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
IMAGE_AXES = 4  # of a convolution's weights; placeholders of pooling layers have two
BROKEN = (  # what unpickling damaged bytes into numpy arrays has been seen to raise
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError),
    *(MemoryError, OverflowError, SystemError, RuntimeError),
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise IrpipeError(f"asks for {module}.{name}; released networks hold numpy arrays only, so it was not run")
        return ALLOWED[module, name]


def _layers(path: Path) -> list[tuple[np.ndarray, ...]]:
    """The layers of a released file without pooling placeholders: (W, b) in HWIO order, the head as (W,)."""
    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected a released network (.pkl)")
    try:
        with path.open("rb") as handle:
            raw = _Unpickler(handle, encoding="latin1").load()
        if isinstance(raw, list):
            found = [tuple(np.asarray(part) for part in layer) for layer in raw]
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
    naming the file if it is missing, asks for anything but arrays, or does not fit.
    """
    module = dataset_module(data["kind"])
    shape, classes = module.SHAPE, len(module.CLASSES)
    *convolutions, head = _layers(path) or [()]
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
    return Checkpoint(metadata | {"source": SOURCE, "file": path.name, "file_sha256": file_sha256(path)}, tensors)


def _tensor(array: np.ndarray, path: Path) -> Tensor:
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise IrpipeError(f"{path}: holds {array.dtype} that are not all finite real numbers; fetch it again")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
