"""Snow: streaks of flakes whose intensities are adversarial (specification 2; protocol C.6-3)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.attacks.parts import table5, unforeseen
from irpipe.attacks.parts.unforeseen import Plan, Space, share
from irpipe.quantities import Count, Factors, Fidelity, Index, Iterate, StepRule

PLANES, SIDE, STRIDE = 7, 13, 4  # kernels, their width, and pixels between flakes
BUDGET, BLOCK, LEAST = 0.2, 8, 1e-9  # mean intensity allowed in a block of flakes, its width; least intensity
WHITENING = 0.25
LUMINANCE = (0.2126, 0.7152, 0.0722)

measure, radii = unforeseen.pictures, table5.radii


def attack(
    case: Case,
    *,
    eps: Factors | None = None,  # brightness of a flake; none: 2, C.6-3
    variant: Fidelity = "code",
    step: StepRule = "code",  # C.6-3
    steps: Count = 200,  # C.6-3
    targeted: bool = True,  # C.6-3
    iterate: Iterate = "last",  # C.6-3
    draws: Index = 0,  # seeds what the released code left to torch
    images: Count = 200,  # C.6-3
    batch: Count = 40,  # C.6-3; has its streaks in common unless fixed
    kept: Index = 8,  # images kept for figures
) -> Iterator[Outcome]:
    """Yield images `[E, N, C, H, W]` in the worst snow found, from log-uniform intensities.

    Record, `[E, N]`: `norm`, the largest mean intensity of a block; `corner`, the share at or beyond the ends of their
    range of those that moved; and what `Plan.run` says.
    """
    plan = Plan(case, variant, steps, targeted, iterate, draws, images, batch)
    shape = (PLANES, *(-(-side // STRIDE) for side in case.images.shape[2:]))

    def of_image(rng: RandomState) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(-rng.uniform(size=shape) / BUDGET), kernels(rng)

    start, streaks = (plan.tensor(part) for part in zip(*plan.of_each(of_image), strict=True))
    if variant == "code":
        streaks = plan.tensor([plan.of_batch(lambda rng, _: kernels(rng))]).expand_as(streaks)
    yield plan.run([_space(plan, streaks, start, radius, plan.step_size(step, radius)) for radius in eps or ()])


def _space(plan: Plan, streaks: Tensor, start: Tensor, eps: float, step: float) -> Space:
    pixels, code, height, width = plan.pixels, plan.variant == "code", *plan.case.images.shape[2:]
    placed, base = place(streaks), whitened(pixels / 255)

    def render(flakes: Tensor) -> Tensor:
        return (base + eps * snow(flakes, placed, height, width)).clamp(0, 1) * 255

    def move(before: int, flakes: Tensor, direction: Tensor) -> Tensor:
        change = step * direction.sign()
        if not code:
            return within_budget(flakes + change)
        return (within_budget(flakes) if before else flakes) + change  # projected only after its gradient was taken

    def record(flakes: Tensor) -> dict[str, Tensor]:
        ends = (flakes <= LEAST) | (flakes >= 1)
        return {"norm": block_means(flakes).flatten(1).amax(dim=1), "corner": share(ends, flakes != start)}

    return Space(start if code else within_budget(start), render, move, record)


def kernels(rng: RandomState) -> np.ndarray:
    """Seven blurred streaks, `[7, 13, 13]`, all leaning the same way, each equal to itself turned by 180 degrees."""
    flip = rng.uniform() < 0.5
    made = []
    for _ in range(PLANES):
        row, column = rng.randint(8, 13), rng.randint(8, 13)
        width, sigma = rng.choice([1, 3, 5], p=[0.6, 0.3, 0.1]), rng.uniform(0.41, 0.6)
        streak = line(row - 6, column - 6, width)
        streak[:7, :7] = streak[6:, 6:][::-1, ::-1]
        made.append(_blurred(streak[:, ::-1] if flip else streak, sigma))
    return np.stack(made)


def line(down: int, right: int, width: float) -> np.ndarray:
    """A line from the centre of 13x13 pixels to `down`, `right` of it, in its quadrant, with soft edges."""
    canvas = np.zeros((SIDE, SIDE))
    length, slope = max(down, right), min(down, right) / max(down, right)
    half = width * math.sqrt(1 + slope) / 4  # a quarter and no square: as the code has it
    along, beside = np.arange(length + 1)[:, None], np.arange(7)
    canvas[6 : 7 + length, 6:] = np.clip(1 + half - np.abs(beside - slope * along), 0, 1)
    return canvas if down > right else canvas.T


def _blurred(streak: np.ndarray, sigma: float) -> np.ndarray:
    """A streak behind a Gaussian of 3x3 pixels."""
    bell = np.exp(-((np.arange(-1, 2) / sigma) ** 2) / 2)
    bell /= bell.sum()
    padded = np.pad(streak, 1)
    rows = sum(weight * padded[k : k + SIDE] for k, weight in enumerate(bell))
    return np.asarray(sum(weight * rows[:, k : k + SIDE] for k, weight in enumerate(bell)))


def place(streaks: Tensor) -> Tensor:
    """Kernels `[N, 7, 13, 13]` where they lie about the flake of their lattice's first site, `[7N, 1, 16, 16]`.

    Planes 0 to 3 are shifted by 0 to 3 pixels to the right, planes 4 to 6 by 1 to 3 down.
    """
    shifts = [(0, k) for k in range(STRIDE)] + [(k, 0) for k in range(1, STRIDE)]
    spare = STRIDE - 1
    placed = [F.pad(streaks[:, k], (x, spare - x, y, spare - y)) for k, (y, x) in enumerate(shifts)]
    return torch.stack(placed, dim=1).flatten(0, 1)[:, None]


def snow(flakes: Tensor, placed: Tensor, height: int, width: int) -> Tensor:
    """Snow `[N, 1, H, W]`: every flake of intensity z `[N, 7, h, w]` is its plane's kernel times z^4."""
    each = (flakes**4).flatten(0, 1)[None]
    fallen = F.conv_transpose2d(each, placed, stride=STRIDE, groups=len(flakes))
    return fallen.transpose(0, 1)[:, :, 6 : 6 + height, 6 : 6 + width]


def whitened(images: Tensor) -> Tensor:
    """Images in [0, 1] under the light of snow; never darker."""
    weights = LUMINANCE if images.shape[1] == 3 else [1 / images.shape[1]] * images.shape[1]
    grey = torch.einsum("nchw,c->nhw", images, images.new_tensor(weights))[:, None]
    return (1 - WHITENING) * images + WHITENING * torch.maximum(images, 1.5 * grey + 0.5)


def block_means(flakes: Tensor) -> Tensor:
    """Mean intensity of each block of 8x8 flakes of a plane; blocks at the edge may be smaller."""
    return F.avg_pool2d(flakes, BLOCK, ceil_mode=True)


def within_budget(flakes: Tensor) -> Tensor:
    """Intensities clipped to their range, and scaled down in blocks whose mean exceeds the budget."""
    clipped = flakes.clamp(LEAST, 1)
    scale = BUDGET / block_means(clipped).clamp(min=BUDGET)
    spread = scale.repeat_interleave(BLOCK, dim=2).repeat_interleave(BLOCK, dim=3)
    return clipped * spread[:, :, : flakes.shape[2], : flakes.shape[3]]
