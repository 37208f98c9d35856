"""Fog: plasma noise over the image, adversarial at every level of the plasma (U.4; C.6-3)."""

from collections.abc import Iterator

import torch
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

FIRST_AMPLITUDE = 100.0  # A_0; each level has half the amplitude of the one before

metrics = _unforeseen.saved_examples
default_eps = table5.default_eps


def attack(
    batch: AttackBatch,
    *,
    # Weight of the fog against the image's 255. None means Table 5's 2048.
    eps: PositiveList | None = None,
    variant: AttackVariant = "released",
    step_rule: StepRule = "released",
    steps: Count = 200,
    targeted: bool = True,
    iterate: Iterate = "last",
    # Seeds what the released code left to torch: the start.
    init_seed: Seed = 0,
    images: Count = 200,
    # In `released`, the fog is scaled over the batch.
    batch_size: Count = 40,
    # Images stored for figures.
    save_examples: CountOrZero = 8,
) -> Iterator[AttackOutput]:
    """Yield images `[E, N, C, H, W]` in adversarial fog, started from uniform noise.

    The defaults are those of Table 5 (C.6-3). The extras, `[E, N]`, are `norm`, the largest
    entry of the noise; `boundary_share`, the share of 0 and 1 among the entries that changed;
    and those of `UnforeseenAttack.run`.
    """
    unforeseen = UnforeseenAttack(
        batch, variant, steps, targeted, iterate, init_seed, images, batch_size
    )
    height, width = batch.images.shape[2:]
    n_levels = max(height, width).bit_length()
    n_entries = 4**n_levels - 1
    init = unforeseen.as_tensor(unforeseen.draw_per_image(lambda rng: rng.uniform(size=n_entries)))
    yield unforeseen.run(
        [
            _parametrisation(
                unforeseen, n_levels, init, value, unforeseen.step_size(step_rule, value)
            )
            for value in eps or ()
        ]
    )


def _parametrisation(
    unforeseen: UnforeseenAttack, n_levels: int, init: Tensor, eps: float, step_size: float
) -> Parametrisation:
    pixels = unforeseen.pixels

    def render(noise: Tensor) -> Tensor:
        return add_fog(pixels, fog_map(noise, n_levels, unforeseen.as_released), eps)

    def step(_: Tensor, noise: Tensor, direction: Tensor) -> Tensor:
        return (noise + step_size * direction.sign()).clamp(0, 1)

    def extras(noise: Tensor) -> dict[str, Tensor]:
        is_at_boundary = (noise == 0) | (noise == 1)
        return {
            "norm": noise.amax(dim=1),
            "boundary_share": share_of(is_at_boundary, noise != init),
        }

    return Parametrisation(init, render, step, extras)


def plasma(noise: Tensor, n_levels: int, reach: int) -> Tensor:
    """Plasma M on a torus, `[N, 2^n_levels, 2^n_levels]`, with M[0, 0] = 0 (U.4).

    `noise` `[N, 4^n_levels - 1]` in [0, 1] holds v_c, v_a and v_b of each level i, of 4^i
    entries each. A level doubles the resolution. It puts new points between the old ones, C:

        D[a, b] = (C[a, b] + C[a+1, b] + C[a, b+1] + C[a+1, b+1]) / 4 + A_i (2 v_c - 1)
        across  = (C[a, b] + C[a, b+1] + D[a, b] + D[a-reach, b]) / 4 + A_i (2 v_a - 1)
        down    = (C[a, b] + C[a+1, b] + D[a, b] + D[a, b-reach]) / 4 + A_i (2 v_b - 1)

    D lies diagonally below C[a, b], `across` to the right of it and `down` below it.
    """
    corners = noise.new_zeros(len(noise), 1, 1)  # C
    n_points = [3 * 4**level for level in range(n_levels)]
    for level, offsets in enumerate(torch.split(2 * noise - 1, n_points, dim=1)):
        amplitude = FIRST_AMPLITUDE / 2**level  # A_i
        shape = (len(noise), 3, *corners.shape[1:])
        noise_c, noise_a, noise_b = (offsets * amplitude).view(shape).unbind(1)
        right = corners.roll(-1, 2)  # C[a, b+1]
        below = corners.roll(-1, 1)  # C[a+1, b]
        diagonal = (corners + right + below + below.roll(-1, 2)) / 4 + noise_c  # D
        across = (corners + right + diagonal + diagonal.roll(reach, 1)) / 4 + noise_a
        down = (corners + below + diagonal + diagonal.roll(reach, 2)) / 4 + noise_b
        cells = torch.stack([corners, across, down, diagonal], dim=1)
        corners = F.pixel_shuffle(cells, 2)[:, 0]
    return corners


def fog_map(noise: Tensor, n_levels: int, as_released: bool) -> Tensor:
    """Fog F = (M - min M) / max(M - min M) of plasma M, in [0, 1], `[N, 2^n_levels, 2^n_levels]`.

    `noise` is that of `plasma`.
    """
    # Released fault (U.4): the neighbour D of a new point is two cells away, not one.
    reach = 2 if as_released else 1
    # Released fault (U.4): min and max are taken over the batch, not for each image.
    axes = (0, 1, 2) if as_released else (1, 2)
    heights = plasma(noise, n_levels, reach)
    heights = heights - heights.amin(dim=axes, keepdim=True)
    return heights / heights.amax(dim=axes, keepdim=True)


def add_fog(pixels: Tensor, fog: Tensor, eps: float) -> Tensor:
    """Images in fog, `[N, C, H, W]` in 0..255: (x + eps F) * 255 / (max x + eps), clipped (U.4).

    F is the middle of `fog` `[N, S, S]`. The maximum is over an image's channel, so that its
    brightest pixel reaches 255 where the fog is thickest.
    """
    height, width = pixels.shape[2:]
    size = fog.shape[1]
    top = (size - height) // 2
    left = (size - width) // 2
    middle = fog[:, None, top : top + height, left : left + width]
    brightest = pixels.amax(dim=(2, 3), keepdim=True)
    return ((pixels + eps * middle) * (255 / (brightest + eps))).clamp(0, 255)
