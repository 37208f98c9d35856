"""Let torchvision be imported, whether or not its compiled library loads.

PyPI has only CUDA builds of torchvision. Next to a CPU-only torch, their library does not load,
and `import torchvision` fails, because it registers fake kernels for two operators, nms and qnms,
that nobody declared. S.9: declaring them is enough. They get no kernels, so calling them still
raises.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def declare_torchvision_operators() -> None:
    """Load torchvision's operators or, if that fails, declare the two that its import needs."""
    module_spec = importlib.util.find_spec("torchvision")
    if module_spec is None or module_spec.origin is None:
        return  # It is not installed, as its import will say.
    ops: Any = torch.ops
    for library in Path(module_spec.origin).parent.glob("_C.*"):
        try:
            ops.load_library(library)
        except OSError:
            continue
    # The library comes first: declaring an operator that it has declared is an error.
    for name in ("nms", "qnms"):
        if not hasattr(ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", SCHEMA)
