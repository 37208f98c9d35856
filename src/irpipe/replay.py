"""Loops on a GPU, recorded once and replayed: the device then need not wait for the host between small operations."""

from collections.abc import Callable

import torch
from torch import Tensor

AHEAD = 3  # runs before the recorded one, in which the libraries choose and allocate


class Recorded:
    """A function of CUDA tensors whose operations are recorded at its first call, as a CUDA graph, and then replayed.

    Later arguments have the first ones' shapes. Whatever else the function reads must stay where it is, as weights that
    change in place do; it may not wait for the device, branch on values or draw numbers.
    """

    def __init__(self, function: Callable[..., list[Tensor]]) -> None:
        self.function = function
        self.replay: Callable[[], None] | None = None
        self.own: list[Tensor] = []
        self.made: list[Tensor] = []

    def __call__(self, *given: Tensor) -> list[Tensor]:
        """What the function gives, in memory of its own."""
        if self.replay is None:
            self.own = [each.clone() for each in given]
            self.replay, self.made = record(self.function, self.own)
        for own, each in zip(self.own, given, strict=True):
            own.copy_(each)
        self.replay()
        return [each.clone() for each in self.made]


def record(function: Callable[..., list[Tensor]], own: list[Tensor]) -> tuple[Callable[[], None], list[Tensor]]:
    """Record `function(*own)`; give what computes it again, and where the results then are.

    Before and after, the arguments are what the memory of `own` holds.
    """
    ahead = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    ahead.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(ahead):
        for _ in range(AHEAD):
            function(*own)
    torch.cuda.current_stream().wait_stream(ahead)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = function(*own)
    return graph.replay, made
