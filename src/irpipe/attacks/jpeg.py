"""JPEG: adversarial offsets of the quantised DCT coefficients, without rounding (U.3; C.6-3)."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput, _unforeseen
from irpipe.attacks._jpeg_codec import Codec
from irpipe.attacks._unforeseen import Parametrisation, Step, UnforeseenAttack
from irpipe.option_types import AttackVariant, Count, CountOrZero, Iterate, PositiveList, Seed
from irpipe.published import table5

PROTOCOL = ("C.6-3",)

MAX_COEFFICIENT_CHANGE = 2.0  # bound on |c| of one coefficient in the l1 and l2 attacks

metrics = _unforeseen.saved_examples
default_eps = table5.default_eps


def attack(
    batch: AttackBatch,
    *,
    norm: Literal["linf", "l2", "l1"] = "linf",
    # Bound on the norm of the offsets, in halves of a quantisation step. None means Table 5's:
    # 0.25 in linf, 8 in l2, 256 in l1.
    eps: PositiveList | None = None,
    variant: AttackVariant = "released",
    steps: Count = 200,
    targeted: bool = True,
    iterate: Iterate = "last",
    # Seeds what the released code left to torch: the start.
    init_seed: Seed = 0,
    images: Count = 200,
    batch_size: Count = 40,
    # Images stored for figures.
    save_examples: CountOrZero = 8,
) -> Iterator[AttackOutput]:
    """Yield images `[E, N, C, H, W]` after a JPEG round trip with adversarial offsets.

    The attack starts at a uniform point of the ball. It takes steps of eps / sqrt(steps) in linf
    and l2, and those of Frank and Wolfe in l1. The defaults are those of Table 5 (C.6-3).
    The extras, `[E, N]`, are `norm`, that of the offsets, and those of `UnforeseenAttack.run`.
    """
    unforeseen = UnforeseenAttack(
        batch, variant, steps, targeted, iterate, init_seed, images, batch_size
    )
    codec = Codec(batch.images.shape[1:], batch.images.device)
    coefficients = codec.encode(unforeseen.pixels)
    n_coefficients = coefficients.shape[1]
    unit_init = unforeseen.as_tensor(
        unforeseen.draw_per_image(lambda rng: DRAW_IN_UNIT_BALL[norm](rng, n_coefficients))
    )

    def render(offset: Tensor) -> Tensor:
        return codec.decode(coefficients + offset / 2).clamp(0, 255)

    def extras(offset: Tensor) -> dict[str, Tensor]:
        return {"norm": torch.linalg.vector_norm(offset, ord=NORM_ORDER[norm], dim=1)}

    def parametrisation(value: float) -> Parametrisation:
        """Return the space of the attack at eps = `value`."""

        def first_gradient_at(offset: Tensor) -> Tensor:
            # Released fault (U.3): the offset is not divided by eps before the first gradient.
            return value * offset if unforeseen.as_released else offset.clone()

        step = MAKE_STEP[norm](value, value / math.sqrt(steps), unforeseen.as_released)
        return Parametrisation(value * unit_init, render, step, extras, first_gradient_at)

    yield unforeseen.run([parametrisation(value) for value in eps or ()])


def linf_step(eps: float, step_size: float, as_released: bool) -> Step:
    """Sign steps, clipped to |c| <= eps (U.3)."""
    return lambda _, offset, direction: (offset + step_size * direction.sign()).clamp(-eps, eps)


def l2_step(eps: float, step_size: float, as_released: bool) -> Step:
    """Steps along the normalised direction, scaled to ||c||_2 <= eps, clipped to |c| <= 2 (U.3)."""

    def step(_: Tensor, offset: Tensor, direction: Tensor) -> Tensor:
        """Take a step of fixed l2 length and project it into the ball."""
        length = direction.norm(dim=1, keepdim=True)
        unit_direction = direction / length
        if not as_released:
            # Released fault (U.3): it lacks this guard, so a direction of length 0 gives NaN.
            unit_direction = unit_direction.where(length > 0, 0)
        new = offset + step_size * unit_direction
        in_ball: Tensor = new * (eps / new.norm(dim=1, keepdim=True)).clamp(max=1)
        return in_ball.clamp(-MAX_COEFFICIENT_CHANGE, MAX_COEFFICIENT_CHANGE)

    return step


def l1_step(eps: float, step_size: float, as_released: bool) -> Step:
    """Frank-Wolfe steps: c <- c + (D - c) / (t + 1), with ||D||_1 = eps (U.3).

    The vertex D has the direction's sign d_j in the entries of largest |d_j|. Each takes as much
    of eps as it has room for, in that order.
    """

    def step(steps_before: Tensor, offset: Tensor, direction: Tensor) -> Tensor:
        """Move from c towards the vertex D."""
        order = _from_largest(direction.abs())
        sign = torch.where(direction > 0, 1.0, -1.0)
        room = torch.full_like(offset, MAX_COEFFICIENT_CHANGE)
        if as_released:
            # Released fault (U.3): the room is measured from c, although D does not start there.
            room = (MAX_COEFFICIENT_CHANGE - sign * offset).gather(1, order)
        used_before = room.cumsum(dim=1) - room
        # cumprod ends the vertex at the first entry that gets nothing. The released room may be
        # negative, so that `used_before` may fall below eps again.
        is_in_vertex = (used_before <= eps).long().cumprod(dim=1)
        magnitude = torch.minimum(room, eps - used_before) * is_in_vertex
        vertex = direction.sign() * torch.empty_like(offset).scatter_(1, order, magnitude)
        return offset + (vertex - offset) / (steps_before + 1)

    return step


def _from_largest(size: Tensor) -> Tensor:
    """Positions in each row of `size` `[N, n]`, at least 0, from its largest entry to its least.

    Equal entries stay in their order. Floats of 32 bits that are at least 0 order as their bits
    do. So numpy can sort bits and position as one integer, which takes a fifth of the time of
    torch's argsort on a CPU.
    """
    if size.device.type != "cpu" or size.dtype != torch.float32:
        return size.argsort(dim=1, descending=True, stable=True)
    falling_bits = -size.view(torch.int32).long()
    keys = (falling_bits << 32) + torch.arange(size.shape[1], device=size.device)
    return torch.from_numpy(np.sort(keys.numpy(), axis=1)) & 0xFFFFFFFF


def _draw_in_l2_ball(rng: RandomState, n_entries: int) -> np.ndarray:
    direction = rng.normal(size=n_entries)
    length = rng.uniform() ** (1 / n_entries)
    return np.asarray(direction / np.linalg.norm(direction) * length)


def _draw_in_l1_ball(rng: RandomState, n_entries: int) -> np.ndarray:
    *magnitudes, rest = rng.exponential(size=n_entries + 1)
    signs = rng.choice([-1, 1], size=n_entries)
    return np.asarray(signs * magnitudes / (sum(magnitudes) + rest))


NORM_ORDER = {"linf": math.inf, "l2": 2, "l1": 1}
# (eps, step size, as released) -> step
MAKE_STEP: dict[str, Callable[[float, float, bool], Step]] = {
    "linf": linf_step,
    "l2": l2_step,
    "l1": l1_step,
}
# (generator, number of entries) -> uniform point of the unit ball
DRAW_IN_UNIT_BALL: dict[str, Callable[[RandomState, int], np.ndarray]] = {
    "linf": lambda rng, n_entries: rng.uniform(-1, 1, n_entries),
    "l2": _draw_in_l2_ball,
    "l1": _draw_in_l1_ball,
}
