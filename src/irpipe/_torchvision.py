"""`from irpipe._torchvision import torchvision`: torchvision, whether or not its compiled library loads.

PyPI has only CUDA builds of torchvision. Beside a CPU-only torch their library does not load, and then
`import torchvision` fails because it registers fake kernels for two operators, nms and qnms, that nobody
declared. Declaring them is enough; they get no kernels, so calling them still raises.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _declare_operators() -> None:
    """Load torchvision's compiled operators or, where that fails, declare the two that its import needs."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return  # not installed: the import below says so
    ops: Any = torch.ops
    for library in Path(spec.origin).parent.glob("_C.*"):
        try:
            ops.load_library(library)
        except OSError:
            continue
    # After the library, not instead of it: declaring an operator twice is an error, from either side.
    for name in ("nms", "qnms"):
        if not hasattr(ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", SCHEMA)


_declare_operators()

import torchvision  # noqa: E402

__all__ = ["torchvision"]
