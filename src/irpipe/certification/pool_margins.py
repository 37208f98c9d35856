"""Bounds of the margins of Pool, for all targets of a batch of images at once."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.certificate import WEIGHT_LEVELS
from irpipe.certification.margin_bounds import Margins
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.pool_relaxation import PoolRelaxation
from irpipe.certification.relaxation import Ball

N_STEPS = 20
# The first lambda counts as so many steps.
STEPS_OF_START = 2


class PoolMargins(NamedTuple):
    """Bounds of the margins of B images and T targets.

    - `lower`: lower bounds, `[B, T]`;
    - `lambda1`, `lambda2`: the weights that give them, `[B, T, c1, U, 4]`, `[B, T, P, c2, 4]`;
    - `minimiser`: the images x* at which the relaxed margins are smallest, `[B, T, C, H, W]`.
    """

    lower: Tensor
    lambda1: Tensor
    lambda2: Tensor
    minimiser: Tensor


def bound_margins(
    network: PoolNetwork,
    ball: Ball,
    relaxation: PoolRelaxation,
    margins: Margins,
    n_steps: int = N_STEPS,
) -> PoolMargins:
    """Return lower bounds of `margins`, for lambda after `n_steps` steps.

    A step moves lambda towards 1 at the function that is largest at the minimiser x*, where the
    relaxed h1 stands for h1 in layer 2. This is the direction in which the bound rises most (Frank
    and Wolfe 1956). At last lambda is rounded to the levels in which it is stored.
    """
    relaxed = _RelaxedMargins(network, ball, relaxation, margins)
    n_targets = margins.targets.shape[1]
    lambda1 = relaxation.lambda1[:, None].repeat(1, n_targets, 1, 1, 1)
    lambda2 = relaxed.largest2(
        network.hidden_at(ball.center)[:, None].expand(-1, n_targets, -1, -1)
    )
    for step in range(n_steps):
        largest1, largest2 = relaxed.largest_at_minimiser(lambda1, lambda2)
        share = 1 / (step + 1 + STEPS_OF_START)
        lambda1.lerp_(largest1, share)
        lambda2.lerp_(largest2, share)
    lambda1, lambda2 = (levels_of(weights) / WEIGHT_LEVELS for weights in (lambda1, lambda2))
    back = relaxed.backwards(lambda1, lambda2)
    return PoolMargins(back.bound, lambda1, lambda2, back.point)


def levels_of(weights: Tensor) -> Tensor:
    """Return weights in whole multiples of 1 / WEIGHT_LEVELS, without moving a sum above 1.

    A sum of 1 stays 1.
    """
    levels = (weights * WEIGHT_LEVELS).round()
    total = (weights.sum(dim=-1, keepdim=True) * WEIGHT_LEVELS).round().clamp(max=WEIGHT_LEVELS)
    largest = levels.argmax(dim=-1, keepdim=True)
    return levels.scatter_add(-1, largest, total - levels.sum(dim=-1, keepdim=True))


class _Backwards(NamedTuple):
    """The bound `[B, T]`, x* `[B, T, C, H, W]` and A1+ `[B, T, c1, U]`."""

    bound: Tensor
    point: Tensor
    is_positive1: Tensor


class _RelaxedMargins:
    """Relaxed margins of B images and T targets.

    Backwards from the margin, with parts m+ >= 0 and m- <= 0 of m, and A1+ and A1- of A1:

        A1 = sum over i of W2_i' (m+ lambda2_i + m- mu2_i)
        A0 = sum over u of A1+ lower1_u + A1- upper1_u,   x* = x0 - r sign(A0)
    """

    def __init__(
        self, network: PoolNetwork, ball: Ball, relaxation: PoolRelaxation, margins: Margins
    ) -> None:
        self.network = network
        self.ball = Ball(ball.center[:, None], ball.radius[:, None])
        self.upper1 = relaxation.upper1
        self.positive2 = margins.coefficients.clamp(min=0)[..., None]
        negative2 = margins.coefficients.clamp(max=0)
        self.fixed2 = negative2[..., None] * relaxation.mu2[:, None]
        bias = (margins.coefficients * network.bias2).sum(dim=(2, 3))
        offset = (negative2 * relaxation.offset2[:, None]).sum(dim=(2, 3))
        self.constant = margins.constant + bias + offset

    def backwards(self, lambda1: Tensor, lambda2: Tensor) -> _Backwards:
        """Return the bounds for these weights."""
        network = self.network
        shape = lambda1.shape[:2]
        coefficients2 = self.positive2 * lambda2 + self.fixed2
        patches = torch.einsum("btpci,cia->btpa", coefficients2, network.weight2)
        coefficients1 = _unflatten(network.add_hidden(patches.flatten(0, 1)), shape)
        positive1, negative1 = coefficients1.clamp(min=0), coefficients1.clamp(max=0)
        weights = positive1[..., None] * lambda1
        pixels = torch.einsum("btcui,ciq->btuq", weights, network.weight1)
        pixels += torch.einsum("btcu,bcuq->btuq", negative1, self.upper1.slopes)
        images = network.pixels.add(pixels.flatten(0, 1), network.shape[1:])
        pixel_coefficients = _unflatten(images, shape)
        point = self.ball.minimiser(pixel_coefficients)
        bound = (
            (pixel_coefficients * point).sum(dim=(2, 3, 4))
            + weights.sum(dim=(3, 4)) @ network.bias1
            + torch.einsum("btcu,bcu->bt", negative1, self.upper1.offset)
            + self.constant
        )
        return _Backwards(bound, point, coefficients1 > 0)

    def largest_at_minimiser(self, lambda1: Tensor, lambda2: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights of 1 at the functions that are largest at x*, for both layers."""
        network = self.network
        back = self.backwards(lambda1, lambda2)
        patches = _unflatten(network.pixels.cut(back.point.flatten(0, 1)), lambda1.shape[:2])
        values = torch.einsum("ciq,btuq->btcui", network.weight1, patches)
        values = F.pad(values + network.bias1[:, None, None], (0, 1))
        largest1 = F.one_hot(values.argmax(dim=-1), values.shape[-1])[..., :-1]
        above = torch.einsum("bcuq,btuq->btcu", self.upper1.slopes, patches)
        above += self.upper1.offset[:, None]
        below = (values[..., :-1] * lambda1).sum(dim=-1)
        hidden = torch.where(back.is_positive1, below, above)
        return largest1.to(values.dtype), self.largest2(hidden)

    def largest2(self, hidden: Tensor) -> Tensor:
        """Return weights of 1 at the functions of layer 2 that are largest for this h1."""
        patches = self.network.cut_hidden(hidden.flatten(0, 1))
        values = torch.einsum("cia,npa->npci", self.network.weight2, patches)
        largest = F.one_hot(values.argmax(dim=-1), values.shape[-1]).to(values.dtype)
        return _unflatten(largest, hidden.shape[:2])


def _unflatten(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor.view(*shape, *tensor.shape[1:])
