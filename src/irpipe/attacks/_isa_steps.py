"""What ISA repeats: a bracket of a largest value, and one attack at a fixed eps (C.5)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import gradient_ascent

MAX_SEARCH_STEPS = 30  # of a search to a tolerance

# Maps images `[M, C, H, W]`, float32, to one loss per image, `[M]`.
Loss = Callable[[Tensor], Tensor]


class Bracket(NamedTuple):
    """The two ends of a search, `[M]`, and what the probe returned there, `[M, ...]`.

    Where `low` is still 0 or `high` still `upper`, nothing was tried there.
    """

    low: Tensor
    high: Tensor
    at_low: Tensor
    at_high: Tensor


def binary_search(
    probe: Callable[[Tensor], tuple[Tensor, Tensor]],
    first: Tensor,
    upper: float,
    steps: int,
    rtol: float | None = None,
) -> Bracket:
    """Bracket the largest value that is below an edge in (0, `upper`).

    `probe(values)` says which of the values `[M]` are below the edge, and returns the images
    `[M, ...]` that it made to find out.

    Each step tries one value, beginning with `first`:
    - below: the value becomes `low`; try twice the value, or the middle if that is less;
    - not below: the value becomes `high`; try the middle.

    Used for eps* (C.5-4) and for gamma = 1 / lambda of paper eq (6) (C.5-5). With `rtol`, the
    search goes on until high - low <= rtol * high (C.5 I1), and `steps` does not count.
    """
    value = first
    low = torch.zeros_like(first)
    high = torch.full_like(first, upper)
    at_low = at_high = first.new_zeros(())
    for _ in range(steps if rtol is None else MAX_SEARCH_STEPS):
        is_open = torch.ones_like(low, dtype=torch.bool)
        if rtol is not None:
            is_open = high.isinf() | (high - low > rtol * high)
            if not is_open.any():
                break
        below, images = probe(value)
        is_low, is_high = is_open & below, is_open & ~below
        low, at_low = torch.where(is_low, value, low), _choose(is_low, images, at_low)
        high, at_high = torch.where(is_high, value, high), _choose(is_high, images, at_high)
        middle = (low + high) / 2
        value = torch.where(below, torch.minimum(2 * value, middle), middle)
    return Bracket(low, high, at_low, at_high)


def _choose(condition: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Rows of `images` where `condition` `[M]` holds, else of `others`."""
    return torch.where(condition.view(-1, *[1] * (images.dim() - 1)), images, others)


def projected_descent(
    images: Tensor,
    first_gradient: Tensor,
    eps: Tensor,
    loss: Loss,
    *,
    steps: int,
    rel_step_size: float,
    grad_scale: float | None,
) -> Tensor:
    """The images `[M, C, H, W]` after `steps` steps that lower the loss, within `eps` `[M]`.

    With g the gradient of each image's loss, a step is

        x' <- x' - rel_step_size * eps * clip(grad_scale * g, -1, 1),

    clipped to the l-inf ball of eps and to [0, 1] (C.5-3). A `grad_scale` of None means the
    sign of g (C.5 I7). `first_gradient` is g at `images`.
    """
    bound = eps[:, None, None, None]
    lower = (images - bound).clamp(min=0)
    upper = (images + bound).clamp(max=1)

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        direction = gradient.sign() if grad_scale is None else (grad_scale * gradient).clamp(-1, 1)
        return torch.clamp(point + rel_step_size * bound * direction, lower, upper)

    # Descent on the loss is ascent on its negative.
    first = update(images, -first_gradient)
    rest = gradient_ascent(first, lambda point: -loss(point).sum(), update, steps - 1)
    *_, last = first, *rest
    return last
