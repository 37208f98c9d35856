"""The random numbers of training, which a thread draws ahead of the steps (C.1, D.8)."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

AHEAD = 4  # steps whose numbers wait in memory


@dataclass(frozen=True)
class Draw:
    """The random numbers of one step."""

    # The order of the training images, at the first step of an epoch.
    order: np.ndarray | None
    # Of the random start, `[N, C, H, W]`, in float64. None: the step makes no perturbation.
    noise: Tensor | None
    # The state of the generator behind these numbers.
    generator: Any


def drawn_ahead(draw: Callable[[int], Draw], steps: range) -> Iterator[Draw]:
    """Yield `draw(step)` for each of the steps. One thread makes the calls, in their order."""
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Draw]] = deque()
        for step in steps:
            waiting.append(thread.submit(draw, step))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()
