"""The one gradient ascent of the project: attacks and the inner maximisation of training supply what differs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from irpipe.models import Folded, Network
from irpipe.progress import progress

Update = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """What an attack is given: one batch of images, `[N, C, H, W]` in [0, 1], with labels `[N]`, and their network.

    `index` `[N]` are their places in the test set, for what must not depend on the batch. `folded` is the same network
    for loops over images; `rng` stands where the draw of the sample left it, as in the released code, so that an
    attack's own draws follow (C.4, C.6-2).
    """

    network: Network
    folded: Folded
    images: Tensor
    labels: Tensor
    index: np.ndarray
    rng: np.random.RandomState
    label: str = ""  # names the work where its progress is shown


def noise(rng: np.random.RandomState, kind: Literal["uniform", "gaussian"], scale: float, like: Tensor) -> Tensor:
    """Noise shaped like the images `[N, C, H, W]`, float64, drawn in the released code's NHWC order (C.1).

    Uniform in [-scale, scale], or normal times 0.001 whatever the scale, as the authors of TRADES start (C.3 T8).
    """
    count, channels, height, width = like.shape
    shape = (count, height, width, channels)
    drawn = rng.uniform(-scale, scale, shape) if kind == "uniform" else 0.001 * rng.normal(size=shape)
    return torch.from_numpy(drawn.transpose(0, 3, 1, 2)).to(like.device)


def ascend(
    start: Tensor, objective: Callable[[Tensor], Tensor], update: Update, steps: int, label: str = ""
) -> Iterator[Tensor]:
    """Yield the iterates 1 to `steps` of `point <- update(point, gradient of the objective)`.

    The objective (a scalar) sees the point in float32; the point keeps the precision it starts in (C.2: float64 in
    training and for CIFAR-10, where rounding decides single images). With a label, progress is shown under it.
    """
    point = start.detach()
    with progress(label, steps) as advance:
        for _ in range(steps):
            variable = point.to(torch.float32, copy=True).requires_grad_()
            (gradient,) = torch.autograd.grad(objective(variable), variable)
            point = update(point, gradient)
            advance()
            yield point


def sign_steps(centre: Tensor, radius: float | Tensor, step: float | Tensor) -> Update:
    """Steps along the gradient's sign, kept within `radius` of `centre` (l-inf) and within [0, 1].

    Bounds are computed in the centre's precision. `radius` and `step` broadcast against the images.
    """
    lower, upper = (centre - radius).clamp_(min=0), (centre + radius).clamp_(max=1)

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        return torch.clamp(point + step * gradient.sign(), lower, upper)

    return update
