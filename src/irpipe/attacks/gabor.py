"""Gabor: noise of adversarial places behind a random Gabor filter (specification 1; protocol C.6-3)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.attacks.parts import table5, unforeseen
from irpipe.attacks.parts.unforeseen import Plan, Space, share
from irpipe.quantities import Count, Factors, Fidelity, Index, Iterate, StepRule

SIDE = 23  # of a kernel
SIDES = 10  # directions of a kernel, at most
DENSITY = 1 / 14  # of the first field
SOFT = 1e-3  # how far from the mean the noise is two-valued

measure, radii = unforeseen.pictures, table5.radii


def attack(
    case: Case,
    *,
    eps: Factors | None = None,  # brightness of the noise in 0..255; none: 400, C.6-3
    variant: Fidelity = "code",
    step: StepRule = "code",  # C.6-3
    steps: Count = 200,  # C.6-3
    targeted: bool = True,  # C.6-3
    iterate: Iterate = "last",  # C.6-3
    draws: Index = 0,  # seeds what the released code left to torch
    images: Count = 200,  # C.6-3
    batch: Count = 40,  # C.6-3; has one sparse matrix in common unless fixed
    kept: Index = 8,  # images kept for figures
) -> Iterator[Outcome]:
    """Yield images `[E, N, C, H, W]` under the worst noise found, from a sparse field in [-1, 1].

    Record, `[E, N]`: `norm`, the field's largest entry in size; `corner`, the share of its entries other than 0 that
    are -1 or 1; and what `Plan.run` says.
    """
    plan = Plan(case, variant, steps, targeted, iterate, draws, images, batch)
    shape = case.images.shape[2:]

    def of_image(rng: RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        wave = rng.uniform([0.1, 3, 0], [0.4, SIDE / 4, math.pi])  # sigma, waves across the kernel, angle
        return wave, *sparse(rng, 1, *shape)

    waves, sides, start = (plan.tensor(part) for part in zip(*plan.of_each(of_image), strict=True))
    sides, start = sides[:, 0], start[:, 0]
    if variant == "code":
        sides, start = (plan.tensor(part) for part in plan.of_batch(lambda rng, count: sparse(rng, count, *shape)))
    spectrum = transformed(kernels(sides, *waves.T), *shape)
    yield plan.run([_space(plan, spectrum, start, radius, plan.step_size(step, radius)) for radius in eps or ()])


def _space(plan: Plan, spectrum: Tensor, start: Tensor, eps: float, step: float) -> Space:
    pixels = plan.pixels
    free = start == 0 if plan.variant == "code" else start != 0  # the code frees the wrong ones

    def render(field: Tensor) -> Tensor:
        return (pixels + eps * noise(filtered(field, spectrum))[:, None]).clamp(0, 255)

    def move(_: int, field: Tensor, direction: Tensor) -> Tensor:
        moved = (field + step * direction.sign()).clamp(-1, 1) * free
        empty = ~moved.flatten(1).any(dim=1)[:, None, None]
        return moved.masked_fill(empty, math.nan)  # as the noise of an empty field is

    def record(field: Tensor) -> dict[str, Tensor]:
        size = field.abs()
        return {"norm": size.amax(dim=(1, 2)), "corner": share(size == 1, size > 0)}

    return Space(start, render, move, record)


def sparse(rng: RandomState, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of directions, `[count]`, and fields `[count, H, W]` with one entry in 14, anywhere, in [-1, 1]."""
    sides = rng.randint(1, SIDES + 1, size=count)
    rng.randint(1, 51)  # drawn and not used by the released code
    field = np.zeros(count * height * width)
    places = rng.choice(len(field), round(DENSITY * len(field)), replace=False)
    field[places] = rng.uniform(-1, 1, len(places))
    return sides, field.reshape(count, height, width)


def kernels(sides: Tensor, sigma: Tensor, waves: Tensor, angle: Tensor) -> Tensor:
    """Kernels `[N, 23, 23]`: a bell times the sum of waves in `sides` directions spread over half a turn."""
    line = torch.linspace(-0.5, 0.5, SIDE, dtype=sigma.dtype, device=sigma.device)
    y, x = line[:, None], line
    turn = torch.arange(SIDES, dtype=sides.dtype, device=sides.device)
    angles = (angle[:, None] + math.pi * turn / sides[:, None])[:, :, None, None]
    phases = 2 * math.pi * waves[:, None, None, None] * (x * angles.cos() + y * angles.sin())
    spread = (sigma + 0.001)[:, None, None]
    bell = torch.exp(-(x**2 + y**2) / (2 * spread**2))
    return bell * (phases.cos() * (turn < sides[:, None])[:, :, None, None]).sum(dim=1)


def transformed(kernel: Tensor, height: int, width: int) -> Tensor:
    """Fourier transform of kernels `[N, 23, 23]`, padded for images of this size."""
    spectrum: Tensor = torch.fft.rfft2(kernel, s=(height + SIDE - 1, width + SIDE - 1))
    return spectrum


def filtered(field: Tensor, spectrum: Tensor) -> Tensor:
    """Fields `[N, H, W]`, zero beyond their edges, behind kernels given as `transformed`.

    Kernels equal themselves turned by 180 degrees, so that convolution is correlation; six times faster than a grouped
    one on a CPU.
    """
    height, width = field.shape[1:]
    size, margin = (height + SIDE - 1, width + SIDE - 1), SIDE // 2
    whole: Tensor = torch.fft.irfft2(torch.fft.rfft2(field, s=size) * spectrum, s=size)
    return whole[:, margin : margin + height, margin : margin + width]


def noise(response: Tensor) -> Tensor:
    """Noise `[N, H, W]` in [0, 1], nearly two-valued: the response's sign about its mean.

    The same for a response and its multiples; NaN where it is constant. Gradients pass by the response alone. A closed
    form of upstream's, whose Fourier transforms cancel.
    """
    with torch.no_grad():
        mean = response.mean(dim=(1, 2), keepdim=True)
        size = (response - mean).abs()
        gain = (1 + SOFT) / (SOFT + size / size.amax(dim=(1, 2), keepdim=True))
    pushed = mean + (response - mean) * gain
    low, high = (ends[:, None, None] for ends in pushed.detach().flatten(1).aminmax(dim=1))
    return (pushed - low) / (high - low)
