"""The device that computes, set to exact and repeatable arithmetic."""

import os
import platform

import numpy as np
import torch

from irpipe.errors import IrpipeError
from irpipe.lease import lease


def device(name: str) -> torch.device:
    """The device called `auto`, `cpu` or `cuda`, without TF32, which could flip single images (protocol C.7).

    Where IRPIPE_LEASE is set, as in jobs of the workflow, the GPU is one that no other such process has (`lease`).
    Raises IrpipeError if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise IrpipeError("--device cuda: this torch sees no GPU; use --device cpu, or auto to take what is there")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if os.environ.get("IRPIPE_LEASE"):
        found = [torch.cuda.get_device_properties(index).uuid for index in range(torch.cuda.device_count())]
        torch.cuda.set_device(lease(tuple(map(str, found))))
    return torch.device("cuda", torch.cuda.current_device())


def versions(where: torch.device) -> dict[str, str]:
    """What a number may depend on besides the code: versions and the device's name."""
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"cpu ({platform.machine()})"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": name,
    }
