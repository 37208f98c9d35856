"""The Lagrangian decomposition of one margin over the places of layer 2."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.dual import Dual
from irpipe.certification.leaves import LeafBounds, LeafPoint, Leaves, margin_terms
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.place_terms import PlaceTerms
from irpipe.certification.relaxation import Ball, Interval, relax

STEPS_PER_ROUND = 20
STEP_SIZE = 0.04
STEP_DECAY = 0.965  # per round
MIN_STEP_SIZE = 0.1 * STEP_SIZE
TEMPERATURE = 0.002
TEMPERATURE_DECAY = 0.97  # per round
MIN_TEMPERATURE = 5e-4


class RestPoint(NamedTuple):
    """The bound of the rest and where it is reached: x* `[1, C, H, W]`, z1*, h* `[1, c1, h, w]`."""

    bound: Tensor
    pixels: Tensor
    z1: Tensor
    hidden: Tensor


class Rest:
    """The part of the margin that no place has: LB over x of (sum of E) h(x) + (sum of D) x.

    With G = the sum of E over all places, parts G+ >= 0 and G- <= 0,

        B1 = G+ (active + open gamma) + G- slope,   B0 = W1' B1 + the sum of D
        LB = B0 x* + B1 b1 + G- intercept,          x* = x0 - r sign(B0)
    """

    def __init__(
        self,
        network: PatchNetwork,
        terms: PlaceTerms,
        ball: Ball,
        interval1: Interval,
        alpha1: Tensor,
    ) -> None:
        self.network = network
        self.entries = terms.entries
        self.ball = ball
        self.relaxation = relax(interval1)
        self.gamma = Dual.starting_at(alpha1[None].clone())

    def pixel_coefficients(self, E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return W1' B1, B1, G and active + open gamma."""
        relaxation = self.relaxation
        zeros = E.new_zeros(relaxation.slope.numel())
        total = zeros.index_add_(0, self.entries.flatten(), E.flatten())
        total = total.view(relaxation.slope.shape)
        lower_slope = torch.addcmul(relaxation.active, relaxation.is_open, self.gamma.value)
        slopes = total.clamp(min=0) * lower_slope + total.clamp(max=0) * relaxation.slope
        return self.network.layer1_adjoint(slopes), slopes, total, lower_slope

    def bound(self, E: Tensor, D: Tensor) -> Tensor:
        """Return the bound of the rest."""
        return self._point(D, *self.pixel_coefficients(E)).bound

    def ascend(self, E: Tensor, D: Tensor, step_size: float, n_steps: int) -> RestPoint:
        """Return the point, and take a step with gamma: d LB / d gamma = G+ open z1*."""
        parts = self.pixel_coefficients(E)
        point = self._point(D, *parts)
        total = parts[2]
        gradient = point.z1 * total.clamp(min=0) * self.relaxation.is_open
        self.gamma.ascend(gradient, step_size, n_steps)
        self.gamma.value.clamp_(0, 1)
        return point

    def _point(
        self, D: Tensor, coefficients: Tensor, slopes: Tensor, total: Tensor, lower_slope: Tensor
    ) -> RestPoint:
        coefficients = coefficients + self.network.add_pixels(D[None])
        pixels = self.ball.minimiser(coefficients)
        bound = (
            (coefficients * pixels).sum()
            + slopes.sum(dim=(0, 2, 3)) @ self.network.bias1
            + (total.clamp(max=0) * self.relaxation.intercept).sum()
        )
        z1 = self.network.layer1(pixels)
        above = torch.addcmul(self.relaxation.intercept, self.relaxation.slope, z1)
        return RestPoint(bound, pixels, z1, torch.where(total > 0, lower_slope * z1, above))


class RoundPoint(NamedTuple):
    """The leaves at the end of a round, and what decides which of them to split.

    `weights` are softmin's; `z` is the mean of (z1*, z2*) over the second half of the round;
    `rest_pixels` is x* of the rest, `[1, C, H, W]`.
    """

    bounds: LeafBounds
    point: LeafPoint
    weights: Tensor
    z: Tensor
    rest_pixels: Tensor


class Decomposition:
    """A lower bound of one margin, f = sum over places p of m_p relu(z2_p) + c, of one image.

    All places share layer 1, h = relu(z1(x)), and the image x. Multipliers E_p of the patch h_p
    and D_p of the patch x_p cut the margin into parts, which are bounded one by one:

        bound = sum over p of min over leaves of p of LB[m_p relu(z2_p) - E_p h_p - D_p x_p]
                + LB over x of [(sum of E) h(x) + (sum of D) x] + c

    The leaves of p are those of a binary tree that splits neurons which p sees, at z = 0. The
    first LB is that of `LeafBounds`, the second that of `Rest`. E, D, alpha, beta and gamma are
    free: all of their values give sound bounds (docs/certify.md).

    It begins with E_p = W2' Az2 of alpha-CROWN, with D = 0 and with one leaf for each place. The
    bound is then alpha-CROWN's.

    `coefficients` m and `alpha2` are `[P, c2]`, `constant` c is a scalar.
    """

    def __init__(
        self,
        network: PatchNetwork,
        terms: PlaceTerms,
        rest: Rest,
        coefficients: Tensor,
        constant: Tensor,
        alpha2: Tensor,
    ) -> None:
        relaxation2 = terms.relaxation2
        slopes2 = coefficients.clamp(min=0) * (relaxation2.active + relaxation2.is_open * alpha2)
        slopes2 = slopes2 + coefficients.clamp(max=0) * relaxation2.slope
        self.network = network
        self.terms = terms
        self.rest = rest
        self.coefficients = coefficients
        self.constant = constant
        E = slopes2 @ network.weight2
        self.E = Dual.starting_at(E)
        self.D = Dual.starting_at(torch.zeros_like(terms.ball.center[:, :-1]))
        # The units of E and of D; the first is that of layer 1's beta, too.
        self.scale1 = float(E.abs().mean()) + 1e-9
        self.margin = margin_terms(terms, coefficients, self.scale1)
        self.leaves = Leaves.roots(terms, alpha2).in_chunks()
        open_E, pixel_D = self.multipliers()
        coefficients0 = rest.pixel_coefficients(open_E)[0] + network.add_pixels(pixel_D[None])
        self.scale0 = float(coefficients0.abs().mean()) + 1e-9
        self.n_rounds = 0
        self.step_size = STEP_SIZE

    def multipliers(self) -> tuple[Tensor, Tensor]:
        """Return E of the open entries, `[P, k1]`, and D together with E of the active ones.

        An active entry is h = K x + b1. So -E h of a place is -(E K) x, up to a constant that
        the rest has with the other sign.
        """
        active = (self.E.value * self.terms.patch_active) @ self.network.composed
        return self.terms.multipliers_of(self.E.value), self.D.value + active

    @property
    def n_leaves(self) -> int:
        """The number of leaves of all places."""
        return len(self.leaves.place)

    def bound(self) -> float:
        """Return the lower bound of the margin."""
        leaf_bounds = LeafBounds(self.terms, self.margin, self.leaves)
        E, D = self.multipliers()
        smallest = self._smallest(leaf_bounds.bounds(E, F.pad(D, (0, 1))))
        return float(smallest.sum() + self.rest.bound(E, D) + self.constant)

    def ascend(self) -> RoundPoint:
        """Take a round of steps with all duals.

        The minimum over the leaves of a place is made smooth by weights of softmin,
        w = exp(-(bound - smallest) / temperature) over their sum. So

            d bound / d E_p = h*(rest) - sum of w h*(leaf)
            d bound / d D_p = x*(rest) - sum of w x*(leaf)
        """
        leaf_bounds = LeafBounds(self.terms, self.margin, self.leaves)
        temperature = max(TEMPERATURE * TEMPERATURE_DECAY**self.n_rounds, MIN_TEMPERATURE)
        first_step = self.n_rounds * STEPS_PER_ROUND + 1
        z = torch.zeros_like(self.leaves.dual.value)
        n_summed = 0
        for step in range(first_step, first_step + STEPS_PER_ROUND):
            E, D = self.multipliers()
            point = leaf_bounds.points(E, F.pad(D, (0, 1)))
            weights = self._softmin(point.bound, temperature)
            rest = self.rest.ascend(E, D, self.step_size, step)
            self._ascend_multipliers(leaf_bounds, point, weights, rest, step)
            if step - first_step >= STEPS_PER_ROUND // 2:
                z += point.z
                n_summed += 1
            leaf_bounds.ascend(point, self.step_size, step)
        self.n_rounds += 1
        self.step_size = max(self.step_size * STEP_DECAY, MIN_STEP_SIZE)
        return RoundPoint(leaf_bounds, point, weights, z / n_summed, rest.pixels)

    def _ascend_multipliers(
        self,
        leaf_bounds: LeafBounds,
        point: LeafPoint,
        weights: Tensor,
        rest: RestPoint,
        step: int,
    ) -> None:
        network = self.network
        terms = self.terms
        chunks = leaf_bounds.chunks
        mean_open = chunks.sums(weights, point.hidden, network.n_places)
        mean_pixels = chunks.sums(weights, point.pixels, network.n_places)[:, :-1]
        # Weights sum to 1, so that an active entry's mean is its value at the mean pixels.
        mean_hidden = torch.addmm(network.patch_bias1, mean_pixels, network.composed.t())
        mean_hidden.mul_(terms.patch_active)
        mean_hidden.scatter_add_(1, terms.patch_entries, mean_open * terms.is_entry)
        hidden = network.hidden.cut(rest.hidden)[0] - mean_hidden
        pixels = network.receptive.cut(rest.pixels)[0] - mean_pixels
        self.E.ascend(hidden, self.step_size * self.scale1, step)
        self.D.ascend(pixels, self.step_size * self.scale0, step)

    def _smallest(self, leaf_bounds: Tensor) -> Tensor:
        """Return the smallest bound of each place, `[P]`."""
        infinity = leaf_bounds.new_full((self.network.n_places,), torch.inf)
        return infinity.scatter_reduce(0, self.leaves.place, leaf_bounds, "amin")

    def _softmin(self, leaf_bounds: Tensor, temperature: float) -> Tensor:
        """Return the weights of leaves `[N]`, which sum to 1 at each place."""
        place = self.leaves.place
        smallest = self._smallest(leaf_bounds)
        weights = torch.exp((smallest[place] - leaf_bounds) / temperature)
        sums = weights.new_zeros(self.network.n_places).index_add(0, place, weights)
        return weights / sums[place]
