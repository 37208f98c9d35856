"""The accelerator of the tests: a pretended one or, if IRPIPE_GPU_TESTS is set, this GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from irpipe.runtime import cuda_graph
from irpipe.runtime.device import select_device

IS_GPU = bool(os.environ.get("IRPIPE_GPU_TESTS"))
if not IS_GPU:
    # Torch must know of it before it computes its first gradient.
    import pretended_device


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """Within this context, the device that is yielded computes, and captures graphs."""
    if IS_GPU:
        yield select_device("cuda")
        return
    with pytest.MonkeyPatch.context() as patch, pretended_device.PretendedDevice():
        patch.setattr(cuda_graph, "capture", pretended_device.capture)
        yield pretended_device.DEVICE
