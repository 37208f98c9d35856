"""Snow: streaks of flakes whose intensities are adversarial (U.2; C.6-3)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

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

N_PLANES = 7
KERNEL_SIZE = 13  # pixels
KERNEL_CENTRE = KERNEL_SIZE // 2
STRIDE = 4  # pixels between the flakes of a plane
BLOCK_SIZE = 8  # flakes
MAX_BLOCK_MEAN = 0.2  # mean intensity of a block of flakes
MIN_INTENSITY = 1e-9
WHITENING = 0.25
LUMINANCE = (0.2126, 0.7152, 0.0722)

metrics = _unforeseen.saved_examples
default_eps = table5.default_eps


def attack(
    batch: AttackBatch,
    *,
    # Brightness of a flake of intensity 1. None means Table 5's 2.
    eps: PositiveList | None = None,
    variant: AttackVariant = "released",
    step_rule: StepRule = "released",
    steps: Count = 200,
    targeted: bool = True,
    iterate: Iterate = "last",
    # Seeds what the released code left to torch: the first intensities.
    init_seed: Seed = 0,
    images: Count = 200,
    # In `released`, the batch shares one set of kernels.
    batch_size: Count = 40,
    # Images stored for figures.
    save_examples: CountOrZero = 8,
) -> Iterator[AttackOutput]:
    """Yield images `[E, N, C, H, W]` in adversarial snow, from log-uniform intensities.

    The defaults are those of Table 5 (C.6-3). The extras, `[E, N]`, are `norm`, the largest mean
    intensity of a block; `boundary_share`, the share at or beyond the ends of their range among
    the intensities that changed; and those of `UnforeseenAttack.run`.
    """
    unforeseen = UnforeseenAttack(
        batch, variant, steps, targeted, iterate, init_seed, images, batch_size
    )
    shape = (N_PLANES, *(math.ceil(size / STRIDE) for size in batch.images.shape[2:]))

    def draw_for_image(rng: RandomState) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(-rng.uniform(size=shape) / MAX_BLOCK_MEAN), draw_kernels(rng)

    draws = zip(*unforeseen.draw_per_image(draw_for_image), strict=True)
    init, kernels = (unforeseen.as_tensor(arrays) for arrays in draws)
    if unforeseen.as_released:
        # U.0: the released code draws one set for the batch, from numpy's global generator.
        batch_kernels = unforeseen.draw_for_batch(lambda rng, _: draw_kernels(rng))
        kernels = unforeseen.as_tensor([batch_kernels]).expand_as(kernels)
    yield unforeseen.run(
        [
            _parametrisation(
                unforeseen, kernels, init, value, unforeseen.step_size(step_rule, value)
            )
            for value in eps or ()
        ]
    )


def _parametrisation(
    unforeseen: UnforeseenAttack, kernels: Tensor, init: Tensor, eps: float, step_size: float
) -> Parametrisation:
    pixels = unforeseen.pixels
    height, width = pixels.shape[2:]
    placed_kernels = place_kernels(kernels)
    base = whiten(pixels / 255)

    def render(flakes: Tensor) -> Tensor:
        snow = snow_layer(flakes, placed_kernels, height, width)
        return (base + eps * snow).clamp(0, 1) * 255

    def step(steps_before: Tensor, flakes: Tensor, direction: Tensor) -> Tensor:
        """Take a step along the sign of the gradient, and project it."""
        change = step_size * direction.sign()
        if unforeseen.as_released:
            # Released faults (U.2): the projection comes only after the gradient was taken, and
            # is left out before the result.
            return torch.where(steps_before > 0, project(flakes), flakes) + change
        return project(flakes + change)

    def extras(flakes: Tensor) -> dict[str, Tensor]:
        is_at_boundary = (flakes <= MIN_INTENSITY) | (flakes >= 1)
        return {
            "norm": block_means(flakes).flatten(1).amax(dim=1),
            "boundary_share": share_of(is_at_boundary, flakes != init),
        }

    # Released fault (U.2): the start is not projected either.
    first = init if unforeseen.as_released else project(init)
    return Parametrisation(first, render, step, extras)


def draw_kernels(rng: RandomState) -> np.ndarray:
    """Draw seven kernels, `[7, 13, 13]`, blurred streaks that all lean to the same side (U.2).

    Each equals itself rotated by 180 degrees.
    """
    is_mirrored = rng.uniform() < 0.5
    kernels = []
    for _ in range(N_PLANES):
        row = rng.randint(8, 13)
        column = rng.randint(8, 13)
        width = rng.choice([1, 3, 5], p=[0.6, 0.3, 0.1])
        sigma = rng.uniform(0.41, 0.6)
        streak = draw_line(row - KERNEL_CENTRE, column - KERNEL_CENTRE, width)
        lower_right = streak[KERNEL_CENTRE:, KERNEL_CENTRE:]
        streak[: KERNEL_CENTRE + 1, : KERNEL_CENTRE + 1] = lower_right[::-1, ::-1]
        if is_mirrored:
            streak = streak[:, ::-1]
        kernels.append(_blur(streak, sigma))
    return np.stack(kernels)


def draw_line(rows: int, columns: int, width: float) -> np.ndarray:
    """A line with soft edges on `[13, 13]`, from the centre `rows` down and `columns` right (U.2).

    Along the longer direction a = 0, 1, ... and across it p, with slope s = shorter / longer,

        value = clip(1 + w'/2 - |p - s a|, 0, 1),  w' = width * sqrt(1 + s) / 2

    where a line would have w' = width * sqrt(1 + s^2).
    """
    image = np.zeros((KERNEL_SIZE, KERNEL_SIZE))
    length = max(rows, columns)
    slope = min(rows, columns) / length
    half_width = width * math.sqrt(1 + slope) / 4  # w' / 2
    a = np.arange(length + 1)[:, None]
    p = np.arange(KERNEL_CENTRE + 1)
    values = np.clip(1 + half_width - np.abs(p - slope * a), 0, 1)
    image[KERNEL_CENTRE : KERNEL_CENTRE + length + 1, KERNEL_CENTRE:] = values
    return image if rows > columns else image.T


def _blur(streak: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a streak `[13, 13]` with a Gaussian of 3x3 pixels, zero-padded."""
    weights = np.exp(-((np.arange(-1, 2) / sigma) ** 2) / 2)
    weights /= weights.sum()
    padded = np.pad(streak, 1)
    rows = sum(weight * padded[k : k + KERNEL_SIZE] for k, weight in enumerate(weights))
    return np.asarray(
        sum(weight * rows[:, k : k + KERNEL_SIZE] for k, weight in enumerate(weights))
    )


def place_kernels(kernels: Tensor) -> Tensor:
    """Kernels `[N, 7, 13, 13]` around the first flake of their plane's lattice, `[7N, 1, 16, 16]`.

    The lattices of planes 0 to 3 are shifted by 0 to 3 pixels to the right, those of planes 4 to
    6 by 1 to 3 pixels down (U.2).
    """
    max_shift = STRIDE - 1
    shifts = [(0, k) for k in range(STRIDE)] + [(k, 0) for k in range(1, STRIDE)]
    placed = [
        F.pad(kernels[:, plane], (right, max_shift - right, down, max_shift - down))
        for plane, (down, right) in enumerate(shifts)
    ]
    return torch.stack(placed, dim=1).flatten(0, 1)[:, None]


def snow_layer(flakes: Tensor, placed_kernels: Tensor, height: int, width: int) -> Tensor:
    """Snow S, `[N, 1, H, W]`: a flake of intensity z adds z^4 times its plane's kernel (U.2).

    `flakes` is `[N, 7, h, w]`; `placed_kernels` comes from `place_kernels`.
    """
    brightness = (flakes**4).flatten(0, 1)[None]
    # One group per image: its seven planes go to one channel.
    snow = F.conv_transpose2d(brightness, placed_kernels, stride=STRIDE, groups=len(flakes))
    rows = slice(KERNEL_CENTRE, KERNEL_CENTRE + height)
    columns = slice(KERNEL_CENTRE, KERNEL_CENTRE + width)
    return snow.transpose(0, 1)[:, :, rows, columns]


def whiten(images: Tensor) -> Tensor:
    """Images in [0, 1] in the light of snow: 0.75 x + 0.25 max(x, 1.5 grey + 0.5) (U.2).

    No pixel becomes darker.
    """
    n_channels = images.shape[1]
    weights = LUMINANCE if n_channels == 3 else [1 / n_channels] * n_channels
    grey = torch.einsum("nchw,c->nhw", images, images.new_tensor(weights))[:, None]
    return (1 - WHITENING) * images + WHITENING * torch.maximum(images, 1.5 * grey + 0.5)


def block_means(flakes: Tensor) -> Tensor:
    """Mean intensity of each block of 8x8 flakes of a plane; blocks at the edge may be smaller."""
    return F.avg_pool2d(flakes, BLOCK_SIZE, ceil_mode=True)


def project(flakes: Tensor) -> Tensor:
    """Clip intensities to [1e-9, 1], then scale blocks down whose mean exceeds 0.2 (U.2)."""
    clipped = flakes.clamp(MIN_INTENSITY, 1)
    scale = MAX_BLOCK_MEAN / block_means(clipped).clamp(min=MAX_BLOCK_MEAN)
    scale = scale.repeat_interleave(BLOCK_SIZE, dim=2).repeat_interleave(BLOCK_SIZE, dim=3)
    height, width = flakes.shape[2:]
    return clipped * scale[:, :, :height, :width]
