"""Bounds of layer 2, for all places of a batch of images: intervals, CROWN, optimised slopes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from irpipe.certification.certificate import ALPHA_LEVELS
from irpipe.certification.dual import Dual
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.relaxation import Ball, Interval, default_alpha, relax

# Rows whose slopes are optimised together; more do not fit into a CPU's cache.
ROWS_AT_ONCE = 512
N_STEPS = 20
STEP_SIZE = 0.15
STEP_DECAY = 0.93


@dataclass(frozen=True)
class OptimisedRows:
    """The bounds of layer 2 whose slopes were optimised, R of them.

    Row i bounds sign z2 at a place and channel from below. `alpha` holds the lower slopes of its
    patch of layer 1 in multiples of 1 / ALPHA_LEVELS, uint8, `[R, a]`.
    """

    image: Tensor
    place: Tensor
    channel: Tensor
    is_upper: Tensor
    alpha: Tensor

    @staticmethod
    def none(network: PatchNetwork) -> "OptimisedRows":
        """Return no rows."""
        index = torch.empty(0, dtype=torch.long, device=network.weight2.device)
        alpha = torch.empty(0, network.weight2.shape[1], dtype=torch.uint8, device=index.device)
        return OptimisedRows(index, index, index, index.bool(), alpha)

    def of_image(self, index: int) -> "OptimisedRows":
        """Return the rows of one image of the batch."""
        rows = self.image == index
        tensors = (self.image, self.place, self.channel, self.is_upper, self.alpha)
        return OptimisedRows(*(tensor[rows] for tensor in tensors))


class _Patches:
    """The balls and relaxations of layer 1 of all patches, one row per image and place."""

    def __init__(self, network: PatchNetwork, ball: Ball, interval1: Interval) -> None:
        self.network = network
        self.ball = Ball(*(network.receptive.cut(tensor).flatten(0, 1) for tensor in ball))
        interval = Interval(*(network.hidden.cut(tensor).flatten(0, 1) for tensor in interval1))
        is_inside = network.is_inside.repeat(len(ball.center), 1)
        self.relaxation = relax(interval, is_inside)
        self.default_alpha = default_alpha(interval)

    def optimise(
        self, patch: Tensor, channel: Tensor, sign: Tensor, n_steps: int
    ) -> tuple[Tensor, Tensor]:
        """Lower bounds `[m]` of sign z2 at these patches and channels, and their alpha `[m, a]`.

        With A1 = sign W2 of the channel, parts A1+ >= 0 and A1- <= 0, the bound is

            A1 h >= Az1 z1 + A1- intercept,   Az1 = A1+ (active + open alpha) + A1- slope
            Az1 z1 = A0 x + Az1 b1_p,         A0 = Az1 K
            bound = A0 x* + Az1 b1_p + A1- intercept + sign b2,   x* = x0 - r sign(A0)

        Its gradient for alpha is A1+ open z1*, with z1* = K x* + b1_p. Each row takes `n_steps`
        steps of Adam. At last alpha is rounded to the levels in which it is stored.
        """
        network = self.network
        relaxation = self.relaxation.rows(patch)
        ball = Ball(self.ball.center[patch], self.ball.radius[patch])
        coefficients = network.weight2[channel] * sign[:, None]
        positive = coefficients.clamp(min=0)
        negative = coefficients.clamp(max=0)
        fixed = positive * relaxation.active + negative * relaxation.slope
        movable = positive * relaxation.is_open
        constant = (negative * relaxation.intercept).sum(dim=1) + sign * network.bias2[channel]
        alpha = Dual.starting_at(self.default_alpha[patch], square_decay=0.99)
        step_size = STEP_SIZE
        for step in range(1, n_steps + 1):
            pixel_coefficients = torch.addcmul(fixed, movable, alpha.value) @ network.composed
            point = ball.minimiser(pixel_coefficients)
            z1 = torch.addmm(network.patch_bias1, point, network.composed.t())
            alpha.ascend(z1.mul_(movable), step_size, step)
            alpha.value.clamp_(0, 1)
            step_size *= STEP_DECAY
        levels = (alpha.value * ALPHA_LEVELS).round_()
        slopes = torch.addcmul(fixed, movable, levels / ALPHA_LEVELS)
        pixel_coefficients = slopes @ network.composed
        point = ball.minimiser(pixel_coefficients)
        bound = (pixel_coefficients * point).sum(dim=1) + slopes @ network.patch_bias1 + constant
        return bound, levels.to(torch.uint8)


def layer2_interval(
    network: PatchNetwork, ball: Ball, interval1: Interval, n_steps: int = N_STEPS
) -> tuple[Interval, OptimisedRows]:
    """Return bounds of z2, `[B, P, c2]`, and the rows whose alphas were optimised."""
    crown = crown_interval(network, ball, interval1)
    return optimised_interval(network, ball, interval1, crown, n_steps)


def crown_interval(network: PatchNetwork, ball: Ball, interval1: Interval) -> Interval:
    """Return the bounds of z2 by interval arithmetic, `[B, P, c2]`.

    Those of neurons that these leave open are CROWN's where these are better. With CROWN's lower
    and upper slope s and t of layer 1, rows W2 and -W2 have

        Az1 = +-W2 (s + t) / 2 - |W2| (t - s) / 2

    so that two products with K serve both. All but A0 r is a convolution.
    """
    weight, bias = network.conv2, network.bias2
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    lowest, highest = (bound.clamp(min=0) for bound in interval1)
    lower = network.convolve2(lowest, positive) + network.convolve2(highest, negative) + bias
    upper = network.convolve2(highest, positive) + network.convolve2(lowest, negative) + bias
    relaxation = relax(interval1)
    lower_slope = relaxation.active + relaxation.is_open * default_alpha(interval1)
    mean, half = (lower_slope + relaxation.slope) / 2, (relaxation.slope - lower_slope) / 2
    center = network.layer1(ball.center)
    at_center = network.layer2(mean * center)
    spread = network.convolve2(half * center, weight.abs())
    below = at_center - spread + network.convolve2(relaxation.intercept, negative)
    above = at_center + spread + network.convolve2(relaxation.intercept, positive)
    means, halves = (network.hidden.cut(part).flatten(0, 1) for part in (mean, half))
    radius = network.receptive.cut(ball.radius).flatten(0, 1)
    open_rows = torch.nonzero((lower < 0) & (upper > 0))
    for image, place, channel in (rows.unbind(1) for rows in torch.split(open_rows, ROWS_AT_ONCE)):
        patch = image * network.n_places + place
        rows = network.weight2[channel]
        odd = (rows * means[patch]) @ network.composed
        even = (rows.abs_() * halves[patch]) @ network.composed
        position = (image, place, channel)
        change = ((even - odd).abs_() * radius[patch]).sum(dim=1)
        lower[position] = torch.maximum(lower[position], below[position] - change)
        change = ((even + odd).abs_() * radius[patch]).sum(dim=1)
        upper[position] = torch.minimum(upper[position], above[position] + change)
    return Interval(lower, upper)


def optimised_interval(
    network: PatchNetwork, ball: Ball, interval1: Interval, interval2: Interval, n_steps: int
) -> tuple[Interval, OptimisedRows]:
    """Return tighter bounds than `interval2` of its open neurons, and their rows."""
    patches = _Patches(network, ball, interval1)
    bounds = torch.stack([interval2.lower, -interval2.upper])
    is_open = ((interval2.lower < 0) & (interval2.upper > 0)).expand_as(bounds)
    is_upper, image, place, channel = torch.nonzero(is_open, as_tuple=True)
    sign = 1 - 2 * is_upper.to(bounds.dtype)
    alphas = [OptimisedRows.none(network).alpha]
    for first in range(0, len(sign), ROWS_AT_ONCE):
        chunk = slice(first, first + ROWS_AT_ONCE)
        patch = image[chunk] * network.n_places + place[chunk]
        bound, alpha = patches.optimise(patch, channel[chunk], sign[chunk], n_steps)
        position = (is_upper[chunk], image[chunk], place[chunk], channel[chunk])
        bounds[position] = torch.maximum(bounds[position], bound)
        alphas.append(alpha)
    optimised = OptimisedRows(image, place, channel, is_upper.bool(), torch.cat(alphas))
    return Interval(bounds[0], -bounds[1]), optimised
