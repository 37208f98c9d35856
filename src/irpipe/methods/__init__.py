"""Training methods, one file a kind: `objective(network, images, labels, *, options)` gives an `Objective`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """The loss of one batch as a scalar function of its perturbed images `[N, C, H, W]`.

    Training minimises `loss` at the images that maximise `inner` (the same function unless given), found from a
    `start` of uniform noise in the ball or of 0.001 times normal noise. A method that sees no perturbed images says
    so with `attacked`, and none are made. `apart`: the gradient of `inner` for an image does not depend on the others,
    but for a factor common to all, so that parts of a batch may be perturbed side by side.
    """

    loss: Callable[[Tensor], Tensor]
    inner: Callable[[Tensor], Tensor] | None = None
    attacked: bool = True
    start: Literal["uniform", "gaussian"] = "uniform"
    apart: bool = False

    def maximised(self) -> Callable[[Tensor], Tensor]:
        """What the inner maximisation ascends."""
        return self.inner or self.loss
