"""The device that computes, set to exact and repeatable arithmetic."""

import platform

import numpy as np
import torch

from irpipe.errors import IrpipeError


def device(name: str) -> torch.device:
    """The device called `auto`, `cpu` or `cuda`, without TF32, which could flip single images (protocol C.7).

    Raises IrpipeError if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise IrpipeError("--device cuda: this torch sees no GPU; use --device cpu, or auto to take what is there")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def versions(where: torch.device) -> dict[str, str]:
    """What a number may depend on besides the code: versions and the device's name."""
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"cpu ({platform.machine()})"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": name,
    }
