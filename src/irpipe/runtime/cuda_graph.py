"""CUDA graphs: capture a function once and replay it, so that the GPU never waits for the host."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

# Runs before the capture, in which the libraries choose their algorithms and allocate memory.
WARMUP_RUNS = 3


class CudaGraphed:
    """A function of CUDA tensors that is captured as a CUDA graph at its first call.

    All calls replay the graph. Later arguments must have the shapes of the first ones. All else
    that the function reads must stay in the same memory, as weights that change in place do.
    The function must not wait for the device, branch on values or draw random numbers.

    `state` are the tensors that the function changes in place. Each call changes them once.
    """

    def __init__(self, function: Callable[..., list[Tensor]], state: Sequence[Tensor] = ()) -> None:
        self.function = function
        self.state = state
        self.replay: Callable[[], None] | None = None
        # The graph reads these tensors and writes those.
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """Return what the function returns for `arguments`, as new tensors."""
        if self.replay is None:
            self.inputs = [argument.clone() for argument in arguments]
            state = [tensor.clone() for tensor in self.state]
            self.replay, self.outputs = capture(self.function, self.inputs)
            for tensor, value in zip(self.state, state, strict=True):
                tensor.copy_(value)
        for graph_input, argument in zip(self.inputs, arguments, strict=True):
            graph_input.copy_(argument)
        self.replay()
        return [output.clone() for output in self.outputs]


def graphed(
    function: Callable[..., list[Tensor]], device: torch.device
) -> Callable[..., list[Tensor]]:
    """`function` as a CUDA graph; on a CPU, `function` itself."""
    return function if device.type == "cpu" else CudaGraphed(function)


@cache
def _warmup_stream(device: int) -> torch.cuda.Stream:
    """The stream of the runs before all captures.

    On each stream, cuBLAS keeps memory until the process ends, on an H100 32 MiB.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def capture(
    function: Callable[..., list[Tensor]], inputs: list[Tensor]
) -> tuple[Callable[[], None], list[Tensor]]:
    """Capture `function(*inputs)`; return a function that replays it, and its outputs.

    A replay reads the current content of `inputs` and overwrites the content of the outputs.
    """
    # CUDA requires that the runs before a capture have a stream of their own.
    warmup = _warmup_stream(torch.cuda.current_device())
    warmup.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warmup):
        for _ in range(WARMUP_RUNS):
            function(*inputs)
    torch.cuda.current_stream().wait_stream(warmup)
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as the one that draws noise, may meanwhile allocate memory.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = function(*inputs)
    return graph.replay, outputs
