"""Gradient ascent in an l-inf ball: the loop, the update and the random start."""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from irpipe.runtime.progress import progress

# Takes a point and the gradient there; returns the next point.
Update = Callable[[Tensor, Tensor], Tensor]


def random_perturbation(
    rng: np.random.RandomState,
    distribution: Literal["uniform", "gaussian"],
    scale: float,
    like: Tensor,
) -> Tensor:
    """Draw noise shaped like the images `like` `[N, C, H, W]`, in float64.

    - `uniform`: between -scale and scale.
    - `gaussian`: normal with deviation 0.001, whatever the scale. Zhang et al. (2019) start
      TRADES so (C.3 T8).

    The numbers are drawn in the order of the released code's axes `[N, H, W, C]` (C.1).
    """
    n_images, channels, height, width = like.shape
    shape = (n_images, height, width, channels)
    if distribution == "uniform":
        noise = rng.uniform(-scale, scale, shape)
    else:
        noise = 0.001 * rng.normal(size=shape)
    return torch.from_numpy(noise.transpose(0, 3, 1, 2)).to(like.device)


def objective_gradient(objective: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """Gradient of a scalar objective at `point`, in float32 and shaped like `point`."""
    return chain_gradient(lambda variable: (objective(variable), None), point)


def chain_gradient(
    chain: Callable[[Tensor], tuple[Tensor, Tensor | None]], point: Tensor
) -> Tensor:
    """Gradient at `point`, by the chain rule, in float32 and shaped like `point`.

    `chain` gets the point in float32. It returns something computed from it and the gradient of the
    objective for that; None means that it is the objective itself, a scalar.
    """
    variable = point.to(torch.float32, copy=True).requires_grad_()
    output, output_gradient = chain(variable)
    (gradient,) = torch.autograd.grad(output, variable, output_gradient)
    return gradient


def gradient_ascent(
    start: Tensor,
    objective: Callable[[Tensor], Tensor],
    update: Update,
    steps: int,
    label: str = "",
) -> Iterator[Tensor]:
    """Yield the iterates 1 to `steps` of `point = update(point, gradient of the objective)`.

    The objective is a scalar and gets the point in float32. The point keeps the dtype of
    `start`: it is float64 in training and on CIFAR-10, where rounding decides single images
    (C.2). If there is a `label`, the progress is shown under it.
    """
    point = start.detach()
    with progress(label, steps) as advance:
        for _ in range(steps):
            point = update(point, objective_gradient(objective, point))
            advance()
            yield point


def linf_sign_update(centre: Tensor, eps: float | Tensor, step_size: float | Tensor) -> Update:
    """Return the update of PGD in the l-inf ball of size eps around x = `centre`:

        x' + step_size * sign(gradient), clipped to [x - eps, x + eps] and to [0, 1].

    The bounds have the dtype of `centre`. `eps` and `step_size` broadcast against the images. A
    step size that is a number is rounded to float32, the dtype of gradients.
    """
    lower = (centre - eps).clamp_(min=0)
    upper = (centre + eps).clamp_(max=1)
    if not isinstance(step_size, Tensor):
        step_size = centre.new_full((), step_size, dtype=torch.float32)

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        return torch.clamp(torch.addcmul(point, step_size, gradient.sign()), lower, upper)

    return update
