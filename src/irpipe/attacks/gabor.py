"""Gabor: noise from an adversarial field, filtered by random Gabor kernels (U.1; C.6-3)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput, _unforeseen
from irpipe.attacks._unforeseen import Parametrisation, UnforeseenAttack, share_of
from irpipe.option_types import (
    AttackVariant,
    Count,
    CountOrZero,
    Iterate,
    PositiveList,
    Seed,
    StepRule,
)
from irpipe.published import table5

PROTOCOL = ("C.6-3",)

KERNEL_SIZE = 23  # pixels
MAX_SIDES = 10  # directions of a kernel
DENSITY = 1 / 14  # share of nonzero entries in the first field
SOFTNESS = 1e-3  # of the largest response: above it the noise is nearly two-valued

metrics = _unforeseen.saved_examples
default_eps = table5.default_eps


def attack(
    batch: AttackBatch,
    *,
    # Brightness of the noise in 0..255. None means Table 5's 400.
    eps: PositiveList | None = None,
    variant: AttackVariant = "released",
    step_rule: StepRule = "released",
    steps: Count = 200,
    targeted: bool = True,
    iterate: Iterate = "last",
    # Seeds what the released code left to torch: the kernels but for their number of sides.
    init_seed: Seed = 0,
    images: Count = 200,
    # In `released`, the batch shares one sparse matrix.
    batch_size: Count = 40,
    # Images stored for figures.
    save_examples: CountOrZero = 8,
) -> Iterator[AttackOutput]:
    """Yield images `[E, N, C, H, W]` under adversarial noise, from a sparse field in [-1, 1].

    The defaults are those of Table 5 (C.6-3). The extras, `[E, N]`, are `norm`, the field's
    largest absolute entry; `boundary_share`, the share of -1 and 1 among its nonzero entries;
    and those of `UnforeseenAttack.run`.
    """
    unforeseen = UnforeseenAttack(
        batch, variant, steps, targeted, iterate, init_seed, images, batch_size
    )
    height, width = batch.images.shape[2:]
    waves, n_sides, init = _draw_waves_and_fields(unforeseen, height, width)
    spectrum = kernel_spectrum(gabor_kernels(n_sides, *waves.T), height, width)
    yield unforeseen.run(
        [
            _parametrisation(
                unforeseen, spectrum, init, value, unforeseen.step_size(step_rule, value)
            )
            for value in eps or ()
        ]
    )


def _draw_waves_and_fields(
    unforeseen: UnforeseenAttack, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw sigma, Lambda, theta `[N, 3]`, the numbers of sides `[N]`, first fields `[N, H, W]`."""

    def draw_for_image(rng: RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        wave = rng.uniform([0.1, 3, 0], [0.4, KERNEL_SIZE / 4, math.pi])
        n_sides, fields = draw_sides_and_fields(rng, 1, height, width)
        return wave, n_sides[0], fields[0]

    draws = zip(*unforeseen.draw_per_image(draw_for_image), strict=True)
    waves, n_sides, fields = (unforeseen.as_tensor(arrays) for arrays in draws)
    if unforeseen.as_released:
        # U.0: the released code draws these for the batch, from numpy's global generator.
        batch_draws = unforeseen.draw_for_batch(
            lambda rng, n_images: draw_sides_and_fields(rng, n_images, height, width)
        )
        n_sides, fields = (unforeseen.as_tensor(arrays) for arrays in batch_draws)
    return waves, n_sides, fields


def _parametrisation(
    unforeseen: UnforeseenAttack, spectrum: Tensor, init: Tensor, eps: float, step_size: float
) -> Parametrisation:
    pixels = unforeseen.pixels
    # Released fault (U.1): the mask frees the entries that start at zero, not the sparse others.
    is_free = init == 0 if unforeseen.as_released else init != 0

    def render(field: Tensor) -> Tensor:
        noise = binarised_noise(filter_field(field, spectrum))[:, None]
        return (pixels + eps * noise).clamp(0, 255)

    def step(_: Tensor, field: Tensor, direction: Tensor) -> Tensor:
        new = (field + step_size * direction.sign()).clamp(-1, 1) * is_free
        # U.1: a field of zeros has no noise but 0/0. As NaN, it keeps its last finite iterate.
        is_empty = ~new.flatten(1).any(dim=1)[:, None, None]
        return new.masked_fill(is_empty, math.nan)

    def extras(field: Tensor) -> dict[str, Tensor]:
        size = field.abs()
        return {"norm": size.amax(dim=(1, 2)), "boundary_share": share_of(size == 1, size > 0)}

    return Parametrisation(init, render, step, extras)


def draw_sides_and_fields(
    rng: RandomState, n_images: int, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw each kernel's number of sides `[N]`, and sparse fields `[N, H, W]` in [-1, 1] (U.1).

    One entry in 14 of all fields together is not zero.
    """
    n_sides = rng.randint(1, MAX_SIDES + 1, size=n_images)
    rng.randint(1, 51)  # the released code draws it and does not use it
    fields = np.zeros(n_images * height * width)
    indices = rng.choice(len(fields), round(DENSITY * len(fields)), replace=False)
    fields[indices] = rng.uniform(-1, 1, len(indices))
    return n_sides, fields.reshape(n_images, height, width)


def gabor_kernels(n_sides: Tensor, sigma: Tensor, frequency: Tensor, theta: Tensor) -> Tensor:
    """Gabor kernels K, `[N, 23, 23]`, not normalised; all arguments are `[N]` (U.1).

    With coordinates x and y in [-0.5, 0.5], Lambda the frequency, and the directions
    t_i = theta + pi i / n_sides, i = 0..n_sides-1,

        K = exp(-(x^2 + y^2) / (2 (sigma + 0.001)^2))
            * sum_i cos(2 pi Lambda (x cos t_i + y sin t_i))
    """
    x = torch.linspace(-0.5, 0.5, KERNEL_SIZE, dtype=sigma.dtype, device=sigma.device)
    y = x[:, None]
    i = torch.arange(MAX_SIDES, dtype=n_sides.dtype, device=n_sides.device)
    t = (theta[:, None] + math.pi * i / n_sides[:, None])[:, :, None, None]
    phase = 2 * math.pi * frequency[:, None, None, None] * (x * t.cos() + y * t.sin())
    is_used = (i < n_sides[:, None])[:, :, None, None]
    spread = (sigma + 0.001)[:, None, None]
    envelope = torch.exp(-(x**2 + y**2) / (2 * spread**2))
    return envelope * (phase.cos() * is_used).sum(dim=1)


def kernel_spectrum(kernels: Tensor, height: int, width: int) -> Tensor:
    """Fourier transform of kernels `[N, 23, 23]`, padded for images of this height and width."""
    spectrum: Tensor = torch.fft.rfft2(kernels, s=_padded_size(height, width))
    return spectrum


def filter_field(field: Tensor, spectrum: Tensor) -> Tensor:
    """Cross-correlation of fields `[N, H, W]` with kernels, zero-padded, `[N, H, W]` (U.1).

    `spectrum` is the `kernel_spectrum`. A kernel equals itself rotated by 180 degrees, so that
    convolution is correlation. On a CPU the transforms are six times faster than a grouped
    convolution.
    """
    height, width = field.shape[1:]
    size = _padded_size(height, width)
    centre = KERNEL_SIZE // 2
    response: Tensor = torch.fft.irfft2(torch.fft.rfft2(field, s=size) * spectrum, s=size)
    return response[:, centre : centre + height, centre : centre + width]


def _padded_size(height: int, width: int) -> tuple[int, int]:
    """Size at which a circular convolution with a kernel is a linear one."""
    return height + KERNEL_SIZE - 1, width + KERNEL_SIZE - 1


def binarised_noise(response: Tensor) -> Tensor:
    """Nearly two-valued noise N in [0, 1], `[N, H, W]`: the response's sign about its mean (U.1).

        q = |r - m| / max |r - m|,  gain = 1.001 / (0.001 + q),  w = m + (r - m) * gain
        N = (w - min w) / (max w - min w)

    m is the mean of the response r; mean, min and max are over an image. The gradient flows
    through the r of w only. N is the same for a response and its multiples, and NaN for a
    constant one. advex-uar computes q by Fourier transforms that cancel.
    """
    with torch.no_grad():
        mean = response.mean(dim=(1, 2), keepdim=True)
        size = (response - mean).abs()
        q = size / size.amax(dim=(1, 2), keepdim=True)
        gain = (1 + SOFTNESS) / (SOFTNESS + q)
    pushed = mean + (response - mean) * gain  # w
    low, high = (ends[:, None, None] for ends in pushed.detach().flatten(1).aminmax(dim=1))
    return (pushed - low) / (high - low)
