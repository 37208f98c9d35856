"""Fog: plasma noise over the image, adversarial in every level of the plasma (specification 4; protocol C.6-3)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.attacks.parts import table5, unforeseen
from irpipe.attacks.parts.unforeseen import Plan, Space, share
from irpipe.quantities import Count, Factors, Fidelity, Index, Iterate, StepRule

WIBBLE = 100.0  # amplitude of the first level; halved from level to level

measure, radii = unforeseen.pictures, table5.radii


def attack(
    case: Case,
    *,
    eps: Factors | None = None,  # weight of the fog against the image's 255; none: 2048, C.6-3
    variant: Fidelity = "code",
    step: StepRule = "code",  # C.6-3
    steps: Count = 200,  # C.6-3
    targeted: bool = True,  # C.6-3
    iterate: Iterate = "last",  # C.6-3
    draws: Index = 0,  # seeds what the released code left to torch
    images: Count = 200,  # C.6-3
    batch: Count = 40,  # C.6-3; fog is scaled over it unless fixed
    kept: Index = 8,  # images kept for figures
) -> Iterator[Outcome]:
    """Yield images `[E, N, C, H, W]` in the worst fog found, from uniform noise.

    Record, `[E, N]`: `norm`, the largest entry of the noise; `corner`, the share that is 0 or 1 of its entries that
    moved; and what `Plan.run` says.
    """
    plan = Plan(case, variant, steps, targeted, iterate, draws, images, batch)
    height, width = case.images.shape[2:]
    levels = max(height, width).bit_length()
    start = plan.tensor(plan.of_each(lambda rng: rng.uniform(size=4**levels - 1)))
    yield plan.run([_space(plan, levels, start, radius, plan.step_size(step, radius)) for radius in eps or ()])


def _space(plan: Plan, levels: int, start: Tensor, eps: float, step: float) -> Space:
    pixels, code = plan.pixels, plan.variant == "code"

    def render(noise: Tensor) -> Tensor:
        return in_fog(pixels, fog(noise, levels, code), eps)

    def move(_: int, noise: Tensor, direction: Tensor) -> Tensor:
        return (noise + step * direction.sign()).clamp(0, 1)

    def record(noise: Tensor) -> dict[str, Tensor]:
        return {"norm": noise.amax(dim=1), "corner": share((noise == 0) | (noise == 1), noise != start)}

    return Space(start, render, move, record)


def plasma(noise: Tensor, levels: int, reach: int) -> Tensor:
    """Plasma on a torus, `[N, 2^levels, 2^levels]`, zero at (0, 0), from noise `[N, 4^levels - 1]` in [0, 1].

    Level i has 3 * 4^i entries of noise: for new points amid four old ones, then to the right of and below old ones.
    These last two are means of the old and amid points around them; the amid ones behind are `reach` places away, 2 in
    the code where 1 is meant.
    """
    grid = noise.new_zeros(len(noise), 1, 1)
    for level in range(levels):
        entries = noise[:, 4**level - 1 : 4 ** (level + 1) - 1].view(-1, 3, 2**level, 2**level)
        amid, across, down = ((2 * entries - 1) * (WIBBLE / 2**level)).unbind(1)
        right, below = grid.roll(-1, 2), grid.roll(-1, 1)
        amid = (grid + right + below + below.roll(-1, 2)) / 4 + amid
        across = (grid + right + amid + amid.roll(reach, 1)) / 4 + across
        down = (grid + below + amid + amid.roll(reach, 2)) / 4 + down
        upper, lower = (torch.stack(pair, dim=3).flatten(2) for pair in ((grid, across), (down, amid)))
        grid = torch.stack([upper, lower], dim=2).flatten(1, 2)
    return grid


def fog(noise: Tensor, levels: int, code: bool) -> Tensor:
    """Plasma scaled to [0, 1], in the code over the whole batch, else by image, `[N, 2^levels, 2^levels]`."""
    grid = plasma(noise, levels, reach=2 if code else 1)
    axes = (0, 1, 2) if code else (1, 2)
    grid = grid - grid.amin(dim=axes, keepdim=True)
    return grid / grid.amax(dim=axes, keepdim=True)


def in_fog(pixels: Tensor, scaled: Tensor, eps: float) -> Tensor:
    """Pictures `[N, C, H, W]` in the middle of fog `[N, S, S]`, in 0..255: the brightest pixel keeps its brightness."""
    (height, width), side = pixels.shape[2:], scaled.shape[1]
    top, left = (side - height) // 2, (side - width) // 2
    seen = scaled[:, None, top : top + height, left : left + width]
    brightest = pixels.amax(dim=(2, 3), keepdim=True)
    return ((pixels + eps * seen) * (255 / (brightest + eps))).clamp(0, 255)
