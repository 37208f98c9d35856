"""Linear bounds of the maxima of Pool.

The largest of some functions z_i lies between linear combinations of them:

    sum of lambda_i z_i <= max over i of z_i <= sum of mu_i z_i + c
    c = the largest upper bound of z_j - sum of mu_i z_i, over j

The first holds for weights lambda >= 0 whose sum is 1, the second for any mu. Of two functions,
max(a, b) = a + relu(b - a), and these are the linear bounds of the ReLU.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.dual import Dual
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.relaxation import Ball

GAME_ROUNDS = 100
MU_STEPS = 20
MU_STEP_SIZE = 0.05


class Lines(NamedTuple):
    """Linear functions of the patches x_u, one per channel and place of layer 1.

    `slopes` `[B, c1, U, q1]`, `offset` `[B, c1, U]`.
    """

    slopes: Tensor
    offset: Tensor


class PoolRelaxation(NamedTuple):
    """Linear bounds of the maxima of both layers for B images.

    - `upper1`: the lines above h1; `mu1`: the weights that they have, `[B, c1, U, 4]`;
    - `lambda1`: weights of h1 for the bounds of layer 2, `[B, c1, U, 4]`; the rest is that of 0;
    - `mu2`, `offset2`: the weights `[B, P, c2, 4]` and c `[B, P, c2]` of the bounds above h2.
    """

    upper1: Lines
    mu1: Tensor
    lambda1: Tensor
    mu2: Tensor
    offset2: Tensor


def relax_pool(network: PoolNetwork, ball: Ball) -> PoolRelaxation:
    """Return linear bounds of the maxima of both layers on the `ball`s of B images."""
    patches = Ball(*(network.pixels.cut(tensor) for tensor in ball))
    lambda1, mu1 = _weights_of_layer1(network, patches)
    upper1 = _upper_lines(network, patches, mu1)
    lower1 = _lower_lines(network, lambda1)
    # The pieces of one image fill a CPU's memory bandwidth.
    layer2 = [
        _layer2(
            network,
            Ball(*(tensor[[i]] for tensor in ball)),
            Lines(*(tensor[i] for tensor in lower1)),
            Lines(*(tensor[i] for tensor in upper1)),
        )
        for i in range(len(ball.center))
    ]
    mu2, offset2 = (torch.stack(tensors) for tensors in zip(*layer2, strict=True))
    return PoolRelaxation(upper1, mu1, lambda1, mu2, offset2)


def _weights_of_layer1(network: PoolNetwork, patches: Ball) -> tuple[Tensor, Tensor]:
    """Return lambda and mu of layer 1, `[B, c1, U, 4]`, from `patches` `[B, U, q1]`.

    lambda is 1 at the largest of 0 and the four, where all pixels are at the ball's center. mu
    begins there and takes steps of Adam that lower the bound at the center.
    """
    center = torch.einsum("ciq,buq->bcui", network.weight1, patches.center)
    center += network.bias1[:, None, None]
    n_values = center.shape[-1]
    largest = F.one_hot(F.pad(center, (0, 1)).argmax(dim=-1), n_values + 1)[..., :-1]
    # Adam's step needs duals and gradients in the same order in memory.
    lambda1 = largest.to(center.dtype).contiguous()
    mu = Dual.starting_at(lambda1.clone(), square_decay=0.99)
    best, smallest = mu.value.clone(), center.new_full(center.shape[:-1], torch.inf)
    for step in range(1, MU_STEPS + 1):
        with torch.enable_grad():
            weights = mu.value.detach().clone().requires_grad_()
            lines = _upper_lines(network, patches, weights)
            values = (lines.slopes * patches.center[:, None]).sum(dim=-1) + lines.offset
            (gradient,) = torch.autograd.grad(values.sum(), weights)
        values = values.detach()
        best = torch.where((values < smallest)[..., None], mu.value, best)
        smallest = torch.minimum(values, smallest)
        mu.ascend(-gradient.contiguous(), MU_STEP_SIZE, step)
    return lambda1, _rounded(best)


def _upper_weights(values: Tensor) -> Tensor:
    """Return weights mu `[..., n]` for which max over i of sum over j of mu_j values_ij is small.

    `values` `[..., n, n]` has the upper bound of z_i - z_j plus z_j at the center. Then the
    maximum bounds sum of mu_i z_i + c at the center. The game of i against j is played for
    GAME_ROUNDS by multiplicative weights, which begin near the best j.
    """
    n_values = values.shape[-1]
    start = values.amax(dim=-2).argmin(dim=-1)
    best = F.one_hot(start, n_values).to(values.dtype)
    smallest = _game_value(values, best)
    mu = 0.9 * best + 0.1 / n_values
    scale = (values.amax(dim=(-1, -2)) - values.amin(dim=(-1, -2))).clamp(min=1e-6)[..., None]
    for game_round in range(1, GAME_ROUNDS + 1):
        products = (values * mu[..., None, :]).sum(dim=-1)
        worst = products.argmax(dim=-1)[..., None, None].expand(*mu.shape[:-1], 1, n_values)
        step = values.gather(-2, worst)[..., 0, :] * (2 / (scale * game_round**0.5))
        mu = torch.softmax(mu.log() - step, dim=-1).clamp(min=1e-9)
        value = _game_value(values, mu)
        best = torch.where((value < smallest)[..., None], mu, best)
        smallest = torch.minimum(smallest, value)
    return best


def _game_value(values: Tensor, mu: Tensor) -> Tensor:
    return (values * mu[..., None, :]).sum(dim=-1).amax(dim=-1)


def _rounded(mu: Tensor) -> Tensor:
    """Return mu as it is stored."""
    return mu.half().to(mu.dtype)


def _lower_lines(network: PoolNetwork, lambda1: Tensor) -> Lines:
    slopes = torch.einsum("bcui,ciq->bcuq", lambda1, network.weight1)
    return Lines(slopes, lambda1.sum(dim=-1) * network.bias1[:, None])


def _upper_lines(network: PoolNetwork, patches: Ball, mu1: Tensor) -> Lines:
    """Return sum of mu_i W1_i x + c. Upper bounds of affine functions on a ball are exact."""
    slopes = torch.einsum("bcui,ciq->bcuq", mu1, network.weight1)
    center, radius = patches.center[:, None], patches.radius[:, None]

    def upper_bound(functions: Tensor) -> Tensor:
        return (functions * center).sum(dim=-1) + (functions.abs() * radius).sum(dim=-1)

    offset = upper_bound(-slopes)
    for i in range(network.weight1.shape[1]):
        upper = upper_bound(network.weight1[:, i, None] - slopes) + network.bias1[:, None]
        offset = torch.maximum(offset, upper)
    return Lines(slopes, offset)


class _PatchLines:
    """Linear bounds of the patches h1_p of one image, of which each unit sees a part of x_p.

    For each unit of a patch, `lines` `[P, q1, 2 c1]` and `offset` `[P, 1, 2 c1]` have the lines
    above it, and then those below.
    """

    def __init__(self, network: PoolNetwork, ball: Ball, lower1: Lines, upper1: Lines) -> None:
        self.network = network
        ball = Ball(*(network.receptive.cut(tensor)[0] for tensor in ball))
        self.center, self.radius = ball.center[:, None], ball.radius[:, None]
        self.lines, self.offset = (
            torch.cat([network.cut_units(tensor) for tensor in pair], dim=-1)
            for pair in zip(upper1, lower1, strict=True)
        )

    def upper_bound(self, rows: Tensor) -> Tensor:
        """Return upper bounds of n `rows` h1_p, `[P, n]`.

        `rows` have the entries for each unit, `[units, P, c1, n]`, or `[units, c1, n]` if they are
        the same at all places.

        rows h1_p <= A x_p + rows+ upper_offset + rows- lower_offset
        A = rows+ upper + rows- lower,   rows = rows+ + rows-,   rows+ >= 0 >= rows-
        """
        network = self.network
        n_rows = rows.shape[-1]
        pixels = rows.new_zeros(network.n_places, *network.receptive_shape, n_rows)
        offset = rows.new_zeros(network.n_places, 1, n_rows)
        for unit, row in enumerate(rows):
            signed = torch.cat([row.clamp(min=0), row.clamp(max=0)], dim=-2)
            seen = network.seen_by_unit(pixels, unit)
            seen += (self.lines[unit] @ signed).view(seen.shape)
            offset += self.offset[unit] @ signed
        pixels = pixels.flatten(1, 3)
        bound = self.center @ pixels + offset
        return (bound + self.radius @ pixels.abs_())[:, 0]


def _layer2(network: PoolNetwork, ball: Ball, lower1: Lines, upper1: Lines) -> tuple[Tensor, ...]:
    """Return mu2 `[P, c2, 4]` and offset2 `[P, c2]` of one image."""
    lines = _PatchLines(network, ball, lower1, upper1)
    weight = network.weight2
    n_channels, n_values = weight.shape[:2]
    hidden = network.cut_hidden(network.hidden_at(ball.center))[0]
    center = torch.einsum("cia,pa->pci", weight, hidden)
    values = center[..., None, :].repeat(1, 1, n_values, 1)
    # The weights for each unit, `[units, c1, c2, 4]`, and all z_i - z_j; those of i = j are 0.
    by_unit = weight.view(n_channels, n_values, len(network.bias1), -1)
    by_unit = by_unit.permute(3, 2, 0, 1).contiguous()
    differences = by_unit[..., None] - by_unit[..., None, :]
    values += lines.upper_bound(differences.flatten(2)).view(values.shape)
    mu = _rounded(_upper_weights(values))
    combined = torch.einsum("pci,udci->updc", mu, by_unit).contiguous()
    offsets = lines.upper_bound((by_unit[:, None] - combined[..., None]).flatten(3))
    return mu, offsets.view(-1, n_channels, n_values).amax(dim=-1)
