"""Square Attack (Andriushchenko et al., ECCV 2020) in l-inf, on images at several eps at once."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irpipe.attacks._margin_loss import margin_loss

# The share of an image that a window covers. It is halved after each of these queries.
FIRST_SHARE = 0.8
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class SquareDraws:
    """The random numbers of Square for N images at E eps.

    At each eps they are those of pyautoattack for its seed, if no image falls:

    - `stripes`: signs of the first change, one for each column, `[E, N, C, 1, W]`;
    - `rows`: the sign of query q's change in each row and 0 outside the window, `[E, Q, C, H, 1]`;
    - `columns`: 1 in the columns of the window, else 0, `[E, Q, 1, 1, W]`.
    """

    stripes: Tensor
    rows: Tensor
    columns: Tensor

    @staticmethod
    def draw(seeds: Sequence[int], images: Tensor, n_queries: int) -> "SquareDraws":
        """Draw the numbers for `images` `[N, C, H, W]`, with a seed for each eps."""
        n_images, channels, height, width = images.shape
        generators = seeded(seeds)
        stripes = draw_stacked(generators, n_images, channels, 1, width)
        draws = draw_stacked(generators, n_queries, 2 + channels)
        sides = torch.tensor([_side(query, images.shape[1:]) for query in range(n_queries)])
        is_inside = []
        for axis, length in enumerate((height, width)):
            first = ((length - sides) * draws[..., axis]).long()[..., None]
            position = torch.arange(length)
            is_inside.append((position >= first) & (position < first + sides[:, None]))
        signs = (2 * draws[..., 2:] - 1).sign()
        rows = signs[..., None, None] * is_inside[0][:, :, None, :, None]
        columns = is_inside[1][:, :, None, None, :].float()
        tensors = ((2 * stripes - 1).sign(), rows, columns)
        return SquareDraws(*(tensor.to(images.device) for tensor in tensors))


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator on the CPU for each of E seeds."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_stacked(
    generators: Sequence[torch.Generator], *shape: int, gaussian: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1), or Gaussian ones, from each of E generators, `[E, *shape]`."""
    draw = torch.randn if gaussian else torch.rand
    return torch.stack([draw(shape, generator=generator) for generator in generators])


def _side(query: int, shape: Sequence[int]) -> int:
    """Return the side of the window at a query, in pixels."""
    channels, height, width = shape
    share = FIRST_SHARE / 2 ** bisect_left(HALVED_AFTER, query)
    side = round(math.sqrt(share * (channels * height * width) / channels))
    return min(max(side, 1), height, width)


def square(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    eps: Tensor,
    eps_number: Tensor,
    stripes: Tensor,
    *,
    draws: SquareDraws,
) -> Tensor:
    """Return the images of greatest margin loss `[m, C, H, W]` that Square finds.

    `images` `[m, C, H, W]` have the bounds `eps` `[m, 1, 1, 1]`, which are number `eps_number` of
    `draws`, and the first signs `stripes` `[m, C, 1, W]`. A misclassified image changes no more.
    """
    found = (images + eps * stripes).clamp(0, 1)
    left = torch.arange(len(images), device=images.device)
    best, loss = found.clone(), margin_loss(network(found), labels)
    ball = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    fixed: tuple[Tensor, ...] = (labels, *ball, 2 * eps, eps_number)
    for query in range(draws.rows.shape[1]):
        is_left = loss < 0
        if not is_left.all():
            found[left] = best
            left, best, loss = left[is_left], best[is_left], loss[is_left]
            fixed = tuple(tensor[is_left] for tensor in fixed)
        if not len(left):
            return found
        labels, lower, upper, change, number = fixed
        change = change * draws.rows[number, query]
        new = torch.addcmul(best, change, draws.columns[number, query]).clamp(lower, upper)
        new_loss = margin_loss(network(new), labels)
        best = torch.where((new_loss > loss).view(-1, 1, 1, 1), new, best)
        loss = torch.maximum(new_loss, loss)
    found[left] = best
    return found
