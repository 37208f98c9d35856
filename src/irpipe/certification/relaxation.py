"""Linear bounds of ReLUs, and the smallest value of a linear function on a ball."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.patch_network import PatchNetwork


class Ball(NamedTuple):
    """The images within eps of clean ones, clipped to [0, 1]: |x - center| <= radius.

    Both are `[B, C, H, W]` or patches of these, `[..., q]`.
    """

    center: Tensor
    radius: Tensor

    def minimiser(self, coefficients: Tensor) -> Tensor:
        """Return x* = x0 - r sign(A), which minimises A x, for `coefficients` A."""
        return torch.addcmul(self.center, self.radius, coefficients.sign(), value=-1)


class Interval(NamedTuple):
    """Bounds l <= z <= u of the inputs z of ReLUs."""

    lower: Tensor
    upper: Tensor


class Relaxation(NamedTuple):
    """Linear bounds of relu(z) for l <= z <= u:

        (active + open * alpha) z <= relu(z) <= slope z + intercept,   0 <= alpha <= 1

    - `is_open`: 1 where l < 0 < u, else 0;
    - `active`: 1 where l >= 0, so that relu(z) = z, else 0;
    - `slope`: u / (u - l) where open, else `active`;
    - `intercept`: -l slope where open, else 0.
    """

    is_open: Tensor
    active: Tensor
    slope: Tensor
    intercept: Tensor

    def rows(self, rows: Tensor) -> "Relaxation":
        """Return the relaxations at these indices of the first axis."""
        return Relaxation(*(tensor[rows] for tensor in self))

    def split(self, sign: Tensor) -> "Relaxation":
        """Return the relaxation on z >= 0 where `sign` is 1, on z <= 0 where it is -1."""
        is_unsplit = 1 - sign.abs()
        is_open = self.is_open * is_unsplit
        active = self.active * is_unsplit + (sign > 0)
        slope = self.slope * is_open + active * (1 - is_open)
        return Relaxation(is_open, active, slope, self.intercept * is_open)


def clipped_ball(images: Tensor, eps: float) -> Ball:
    """Return the ball of radius `eps` around each of `images`, clipped to [0, 1]."""
    lower = (images - eps).clamp(min=0)
    upper = (images + eps).clamp(max=1)
    return Ball((lower + upper) / 2, (upper - lower) / 2)


def layer1_interval(network: PatchNetwork, ball: Ball) -> Interval:
    """Return the exact bounds W1 x0 + b1 -+ |W1| r of z1, `[B, c1, h, w]`."""
    center = network.layer1(ball.center)
    pixels = network.pixels
    radius = F.conv2d(
        ball.radius, network.conv1.abs(), stride=pixels.stride, padding=pixels.padding
    )
    return Interval(center - radius, center + radius)


def relax(interval: Interval, is_inside: Tensor | None = None) -> Relaxation:
    """Return the relaxation of relu on an interval.

    Where `is_inside` is False, there is padding: z means nothing there, and relu(z) is 0.
    """
    lower, upper = interval
    is_open = (lower < 0) & (upper > 0)
    is_active = lower >= 0
    if is_inside is not None:
        is_active = is_active & is_inside
    active = is_active.to(lower.dtype)
    slope = torch.where(is_open, upper / (upper - lower).clamp(min=1e-12), active)
    intercept = torch.where(is_open, -lower * slope, 0.0)
    return Relaxation(is_open.to(lower.dtype), active, slope, intercept)


def default_alpha(interval: Interval) -> Tensor:
    """Return CROWN's alpha: 1 where u > -l, else 0; and 0 where the ReLU is not open."""
    is_open = (interval.lower < 0) & (interval.upper > 0)
    return (is_open & (interval.upper > -interval.lower)).to(interval.lower.dtype)
