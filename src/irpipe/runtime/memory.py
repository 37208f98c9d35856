"""How many rows of tensors are computed at a time: as many as the device's memory holds."""

import sys
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

# What autograd may store at a time on a CPU. More would make nothing faster.
CPU_BYTES = 2**29
# The share of a GPU's free memory that autograd may fill. The passes themselves need some, too.
GPU_SHARE = 0.4


def map_fitting_rows(
    function: Callable[..., list[Tensor]],
    *tensors: Tensor,
    row_bytes: Callable[[], int] | None = None,
) -> list[Tensor]:
    """Return what `function` gives for `tensors` `[M, ...]`, for as many rows at a time as fit.

    `row_bytes()` is what autograd stores for a row (`gradient_bytes`). Without it, all rows are
    tried at once. If a GPU still runs out of memory, half as many rows are computed at a time, and
    one line on standard error says so. So the result of a row must not depend on the others, and
    `function` must draw no random numbers.
    """
    n_rows = len(tensors[0])
    n_at_once = max(n_rows, 1)
    if row_bytes:
        n_fitting = available_bytes(tensors[0].device) // max(row_bytes(), 1)
        n_at_once = max(1, min(n_at_once, n_fitting))
    parts: list[list[Tensor]] = []
    first = 0
    while first < n_rows or not parts:
        chunk = [tensor[first : first + n_at_once] for tensor in tensors]
        part = function(*chunk) if len(chunk[0]) <= 1 else _unless_out_of_memory(function, chunk)
        if part is None:
            n_at_once = -(-len(chunk[0]) // 2)
            continue
        parts.append(part)
        first += n_at_once
    if len(parts) == 1:
        return parts[0]
    return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]


def available_bytes(device: torch.device) -> int:
    """Bytes that autograd may fill on a device: a share of what is free, for a CPU CPU_BYTES."""
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    # torch keeps memory that no tensor uses any more.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(GPU_SHARE * (free + unused))


def gradient_bytes(function: Callable[[Tensor], Tensor], image: Tensor) -> int:
    """Bytes that autograd stores for the gradient of `function` at one image `[1, C, H, W]`."""
    total = 0

    def add(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(add, lambda tensor: tensor):
        function(image.detach().to(torch.float32, copy=True).requires_grad_())
    return total


def _unless_out_of_memory(
    function: Callable[..., list[Tensor]], chunk: list[Tensor]
) -> list[Tensor] | None:
    """What `function` gives for a chunk of rows, or None if the GPU has too little memory."""
    try:
        return function(*chunk)
    except torch.OutOfMemoryError:
        _tell_once(chunk[0].device)
    # Only here, where the error is gone, the memory of its tensors is free.
    return None


@cache
def _tell_once(device: torch.device) -> None:
    message = "out of memory: fewer images are computed at a time, with the same numbers"
    print(f"{device}: {message}", file=sys.stderr, flush=True)
