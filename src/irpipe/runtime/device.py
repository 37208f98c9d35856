"""The device that computes, set to exact and repeatable arithmetic."""

import os
import platform
import re

import numpy as np
import torch

from irpipe.errors import IrpipeError
from irpipe.runtime.gpu_lock import lock_gpu


def select_device(name: str) -> torch.device:
    """Return the device called `auto`, `cpu` or `cuda`; `auto` is a GPU if there is one.

    Switches TF32 off, which could change the prediction of single images (C.7).

    If IRPIPE_LOCK_GPU is set, as in the jobs of the workflow, no other such process has the same
    GPU; see `lock_gpu`. Raises IrpipeError if `cuda` is asked for and there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise IrpipeError(
            "--device cuda: this torch sees no GPU; use --device cpu, or auto to take what is there"
        )
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if os.environ.get("IRPIPE_LOCK_GPU"):
        n_gpus = torch.cuda.device_count()
        uuids = [str(torch.cuda.get_device_properties(index).uuid) for index in range(n_gpus)]
        torch.cuda.set_device(lock_gpu(tuple(uuids)))
    return torch.device("cuda", torch.cuda.current_device())


def machine() -> dict[str, str | int]:
    """Return what rounding may depend on besides the versions: how this process computes on a CPU.

    - `cpu_capability`: the instruction set that torch's own kernels use;
    - `threads`: torch's threads; `blas`: the library that multiplies matrices.
    """
    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "blas": blas.group(1) if blas else "unknown",
    }


def versions(device: torch.device) -> dict[str, str]:
    """Return what a number may depend on besides the code: versions and the device's name."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"cpu ({platform.machine()})"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": name,
    }
