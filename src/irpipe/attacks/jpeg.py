"""JPEG: adversarial changes of the quantised DCT coefficients, without rounding (specification 3; protocol C.6-3)."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.attacks.parts import table5, unforeseen
from irpipe.attacks.parts.codec import Codec
from irpipe.attacks.parts.unforeseen import Plan, Space
from irpipe.quantities import Count, Factors, Fidelity, Index, Iterate

BOX = 2.0  # the most that one coefficient may move in the l1 and l2 balls

measure, radii = unforeseen.pictures, table5.radii


def attack(
    case: Case,
    *,
    norm: Literal["linf", "l2", "l1"] = "linf",
    eps: Factors | None = None,  # in halves of a quantisation step; none: .25, 8 or 256 by norm, C.6-3
    variant: Fidelity = "code",
    steps: Count = 200,  # C.6-3
    targeted: bool = True,  # C.6-3
    iterate: Iterate = "last",  # C.6-3
    draws: Index = 0,  # seeds what the released code left to torch
    images: Count = 200,  # C.6-3
    batch: Count = 40,  # C.6-3
    kept: Index = 8,  # images kept for figures
) -> Iterator[Outcome]:
    """Yield images `[E, N, C, H, W]` behind the worst codec found, whose coefficients are off by up to eps.

    From a uniform point of the ball; steps of eps / sqrt(steps), in the l1 ball Frank and Wolfe's. Record, `[E, N]`:
    `norm` of the change of coefficients, and what `Plan.run` says.
    """
    plan = Plan(case, variant, steps, targeted, iterate, draws, images, batch)
    codec = Codec(case.images.shape[1:], case.images.device)
    clean = codec.encode(plan.pixels)
    unit = plan.tensor(plan.of_each(lambda rng: START[norm](rng, clean.shape[1])))

    def space(radius: float) -> Space:
        """Where the attack moves within the radius."""

        def render(change: Tensor) -> Tensor:
            return codec.decode(clean + change / 2).clamp(0, 255)

        def record(change: Tensor) -> dict[str, Tensor]:
            return {"norm": torch.linalg.vector_norm(change, ord=ORDER[norm], dim=1)}

        first = (lambda change: radius * change) if variant == "code" else torch.clone  # the code forgets to divide
        move = MOVE[norm](radius, radius / math.sqrt(steps), variant == "code")
        return Space(radius * unit, render, move, record, first)

    yield plan.run([space(radius) for radius in eps or ()])


Move = Callable[[int, Tensor, Tensor], Tensor]


def linf(eps: float, step: float, code: bool) -> Move:
    """Steps along the sign, kept in the cube of `eps`."""
    return lambda _, change, direction: (change + step * direction.sign()).clamp(-eps, eps)


def l2(eps: float, step: float, code: bool) -> Move:
    """Steps of length `step`, kept in the ball of `eps`, then in the box.

    A vanishing direction gives NaN in the code, else no step.
    """

    def move(_: int, change: Tensor, direction: Tensor) -> Tensor:
        length = direction.norm(dim=1, keepdim=True)
        unit = direction / length
        moved = change + step * (unit if code else unit.where(length > 0, 0))
        inside: Tensor = moved * (eps / moved.norm(dim=1, keepdim=True)).clamp(max=1)
        return inside.clamp(-BOX, BOX)

    return move


def l1(eps: float, step: float, code: bool) -> Move:
    """Frank and Wolfe's average of vertices, each with its weight where the direction is largest.

    A coefficient takes as much as the box allows: from zero, but in the code from where it is.
    """

    def move(before: int, change: Tensor, direction: Tensor) -> Tensor:
        """The change after one more step."""
        order = direction.abs().argsort(dim=1, descending=True)
        side = torch.where(direction > 0, 1.0, -1.0)
        room = (BOX - side * change).gather(1, order) if code else torch.full_like(change, BOX)
        spent = room.cumsum(dim=1) - room
        within = (spent <= eps).long().cumprod(dim=1)  # up to the first that is not: room may be negative in the code
        weight = torch.minimum(room, eps - spent) * within
        vertex = direction.sign() * torch.empty_like(change).scatter_(1, order, weight)
        return change + (vertex - change) / (before + 1)

    return move


MOVE: dict[str, Callable[[float, float, bool], Move]] = {"linf": linf, "l2": l2, "l1": l1}
ORDER = {"linf": math.inf, "l2": 2, "l1": 1}


def _in_l2(rng: RandomState, count: int) -> np.ndarray:
    away = rng.normal(size=count)
    return np.asarray(away / np.linalg.norm(away) * rng.uniform() ** (1 / count))


def _in_l1(rng: RandomState, count: int) -> np.ndarray:
    *sizes, rest = rng.exponential(size=count + 1)
    return np.asarray(rng.choice([-1, 1], size=count) * sizes / (sum(sizes) + rest))


# a uniform point of the unit ball
START: dict[str, Callable[[RandomState, int], np.ndarray]] = {
    "linf": lambda rng, count: rng.uniform(-1, 1, count),
    "l2": _in_l2,
    "l1": _in_l1,
}
