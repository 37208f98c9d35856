"""The accelerator of the tests: a pretended one or, if IRPIPE_GPU_TESTS is 1, this GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from gpu_wanted import IS_GPU

from irpipe.runtime.device import select_device

if not IS_GPU:
    # Torch must know of it before it computes its first gradient.
    import pretended_device


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """Within this context, the device that is yielded computes, and captures graphs."""
    if IS_GPU:
        yield select_device("cuda")
        return
    with pretended_device.PretendedDevice():
        yield pretended_device.DEVICE
