"""The leaves of the trees of all places, and the lower bounds that they give."""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.dual import Dual
from irpipe.certification.place_terms import PlaceTerms
from irpipe.certification.relaxation import Ball, Relaxation, default_alpha

NO_LIMIT = 1e9


@dataclass
class Leaves:
    """The leaves of the trees, N of all places together.

    A leaf restricts the neurons that its tree has split: z >= 0 where the sign is 1, z <= 0
    where it is -1. `sign1` and `sign2` are int8, `[N, k]` and `[N, c2]`. The duals of the same
    shapes are alpha where a neuron is open, and beta over its unit where it is split.
    """

    place: Tensor
    sign1: Tensor
    sign2: Tensor
    dual1: Dual
    dual2: Dual

    @staticmethod
    def roots(terms: PlaceTerms, alpha2: Tensor) -> "Leaves":
        """Return one leaf for each place, with CROWN's alpha1 and the `alpha2` `[P, c2]`."""
        return Leaves(
            place=torch.arange(len(alpha2), device=alpha2.device),
            sign1=torch.zeros_like(terms.entries, dtype=torch.int8),
            sign2=torch.zeros_like(alpha2, dtype=torch.int8),
            dual1=Dual.starting_at(default_alpha(terms.interval1)),
            dual2=Dual.starting_at(alpha2.clone()),
        )

    def rows(self, rows: Tensor) -> "Leaves":
        """Return a copy of these leaves, in this order."""
        return Leaves(
            self.place[rows],
            self.sign1[rows],
            self.sign2[rows],
            self.dual1.rows(rows),
            self.dual2.rows(rows),
        )

    def store(self, rows: Tensor, other: "Leaves") -> None:
        """Replace some leaves by those of `other`, which have the same places."""
        self.sign1[rows] = other.sign1
        self.sign2[rows] = other.sign2
        self.dual1.store(rows, other.dual1)
        self.dual2.store(rows, other.dual2)

    def append(self, other: "Leaves") -> None:
        """Add the leaves of `other` at the end."""
        self.place = torch.cat([self.place, other.place])
        self.sign1 = torch.cat([self.sign1, other.sign1])
        self.sign2 = torch.cat([self.sign2, other.sign2])
        self.dual1.append(other.dual1)
        self.dual2.append(other.dual2)


def grouping_order(place: Tensor, n_places: int) -> Tensor:
    """Return the order of rows in which `LeafBounds` wants leaves at these places, `[N]`.

    Rows of a place follow each other, and places with equally many rows do so, too.
    """
    n_rows = torch.bincount(place, minlength=n_places)[place]
    return (n_rows * n_places + place).argsort(stable=True)


class _Groups:
    """Products of rows with a matrix of their place, for rows in `grouping_order`.

    The places with equally many rows are one batched product.
    """

    def __init__(self, place: Tensor) -> None:
        counts = torch.bincount(place)
        # Places in the order of the rows.
        changes = torch.nonzero(place[1:] != place[:-1])[:, 0] + 1
        self.places = place[torch.cat([changes.new_zeros(1), changes])]
        # For each group: its places, their rows, and how many rows each place has.
        self.parts: list[tuple[slice, slice, int]] = []
        n_places, n_rows = 0, 0
        for count, group in itertools.groupby(counts[self.places].tolist()):
            size = len(list(group))
            rows = slice(n_rows, n_rows + size * count)
            self.parts.append((slice(n_places, n_places + size), rows, count))
            n_places, n_rows = n_places + size, rows.stop

    def product(self, rows: Tensor, matrices: Tensor, addend: Tensor, factor: float = 1) -> Tensor:
        """Return `rows` `[N, i]` times `matrices` plus `factor` times `addend`, `[N, j]`.

        The matrices `[P, i, j]` and addends `[P, j]` have one row for each of `places`.
        """
        products = rows.new_empty(len(rows), matrices.shape[2])
        for places, part, count in self.parts:
            torch.baddbmm(
                addend[places, None],
                rows[part].view(-1, count, rows.shape[1]),
                matrices[places],
                beta=factor,
                out=products[part].view(-1, count, matrices.shape[2]),
            )
        return products


class LeafPoint(NamedTuple):
    """Where leaves' relaxations are smallest, one row per leaf, and what a split needs.

    `bound` `[N]`; `pixels` x* `[N, q]`; `z1`, `hidden` h*, `positive1` A1+ and `negative1` A1-
    `[N, k]`; `z2` `[N, c2]`.
    """

    bound: Tensor
    pixels: Tensor
    z1: Tensor
    hidden: Tensor
    z2: Tensor
    positive1: Tensor
    negative1: Tensor


class LeafBounds:
    """Lower bounds of leaves for multipliers E `[P, k]` and D `[P, q]`.

    `leaves` are in `grouping_order`. On the leaf with signs S1 and S2 of place p,

        m_p relu(z2_p) - E_p h_p - D_p x_p >= bound

        Az2 = m+ (active2 + open2 alpha2) + m- slope2 - S2 beta2
        A1 = Az2 W2_p - E_p
        Az1 = A1+ (active1 + open1 alpha1) + A1- slope1 - S1 beta1
        A0 = Az1 K_p + Az2 L_p - D_p
        bound = A0 x* + Az1 b1_p + Az2 d_p + A1- intercept1 + m- intercept2,  x* = x0 - r sign(A0)

    where active, open, slope and intercept are those of the leaf: a split neuron is not open.
    beta >= 0 is a dual in units of `scale1` and `scale2`, since Adam's steps have one size.
    `coefficients` m and `scale2` are `[P, c2]`.
    """

    def __init__(
        self,
        terms: PlaceTerms,
        coefficients: Tensor,
        leaves: Leaves,
        scale1: Tensor,
        scale2: Tensor,
    ) -> None:
        place = leaves.place
        self.terms = terms
        self.leaves = leaves
        self.groups = _Groups(place)
        self.ball = Ball(terms.ball.center[place], terms.ball.radius[place])
        sign1 = leaves.sign1.to(scale1.dtype)
        sign2 = leaves.sign2.to(scale1.dtype)
        self.relaxation1 = terms.relaxation1.rows(place).split(sign1)
        self.relaxation2 = terms.relaxation2.rows(place).split(sign2)
        self.beta_factor1 = sign1 * scale1
        self.positive2 = coefficients[place].clamp(min=0)
        self.negative2 = coefficients[place].clamp(max=0)
        # Az2 = fixed2 + movable2 * dual2
        self.fixed2 = (
            self.positive2 * self.relaxation2.active + self.negative2 * self.relaxation2.slope
        )
        self.movable2 = self.positive2 * self.relaxation2.is_open - sign2 * scale2[place]
        self.constant = (self.negative2 * self.relaxation2.intercept).sum(dim=1)
        # alpha may not exceed 1, beta has no limit.
        self.limit1 = torch.where(leaves.sign1 != 0, NO_LIMIT, self.relaxation1.is_open)
        self.limit2 = torch.where(leaves.sign2 != 0, NO_LIMIT, self.relaxation2.is_open)
        self.weight2 = terms.weight2[self.groups.places]
        self.pixel_weights = terms.pixel_weights[self.groups.places]
        self.bias = terms.bias[self.groups.places]
        self.no_addend = torch.zeros_like(self.bias[:, :1])

    def bounds(self, E: Tensor, D: Tensor) -> Tensor:
        """Return the bounds of the leaves, `[N]`."""
        return self._backwards(E, D)[0]

    def points(self, E: Tensor, D: Tensor) -> LeafPoint:
        """Return the bounds of the leaves and where they are reached:

        z1* = K_p x* + b1_p,   h* = the relaxed relu(z1*),   z2* = W2_p h* + L_p x* + d_p
        """
        bound, pixels, positive1, negative1, lower_slope1 = self._backwards(E, D)
        linear = self.groups.product(pixels, self.pixel_weights.transpose(1, 2), self.bias)
        n_entries = self.terms.n_entries
        z1 = linear[:, :n_entries].contiguous()
        is_positive = (positive1 > 0).to(z1.dtype)
        hidden = torch.lerp(self.relaxation1.slope, lower_slope1, is_positive).mul_(z1)
        hidden.addcmul_(1 - is_positive, self.relaxation1.intercept)
        z2 = self.groups.product(hidden, self.weight2.transpose(1, 2), self.no_addend)
        z2.add_(linear[:, n_entries:])
        return LeafPoint(bound, pixels, z1, hidden, z2, positive1, negative1)

    def ascend(self, point: LeafPoint, step_size: float, n_steps: int) -> None:
        """Take a step of Adam with the leaves' duals:

        d bound / d alpha1 = A1+ open1 z1*,   d bound / d beta1 = -S1 z1*, and so for layer 2
        """
        leaves = self.leaves
        movable1 = (point.positive1 * self.relaxation1.is_open).sub_(self.beta_factor1)
        leaves.dual1.ascend(movable1.mul_(point.z1), step_size, n_steps)
        leaves.dual2.ascend(self.movable2 * point.z2, step_size, n_steps)
        for dual, limit in ((leaves.dual1, self.limit1), (leaves.dual2, self.limit2)):
            dual.value.clamp_(min=0)
            torch.minimum(dual.value, limit, out=dual.value)

    def gaps(self, point: LeafPoint, z1: Tensor, z2: Tensor) -> Tensor:
        """Return the error of each neuron's relaxation at z1 and z2, `[N, k + c2]`.

        It is how far the relaxed relu lies from relu, times the coefficient of the neuron.
        """
        gap1 = _gap(point.positive1, point.negative1, z1, self.relaxation1, self.leaves.dual1)
        gap2 = _gap(self.positive2, self.negative2, z2, self.relaxation2, self.leaves.dual2)
        return torch.cat([gap1, gap2], dim=1)

    def _backwards(self, E: Tensor, D: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return bound, x*, A1+, A1- and active1 + open1 alpha1."""
        places = self.groups.places
        dual1 = self.leaves.dual1.value
        slopes2 = torch.addcmul(self.fixed2, self.movable2, self.leaves.dual2.value)
        coefficients1 = self.groups.product(slopes2, self.weight2, E[places], -1)
        positive1 = coefficients1.clamp(min=0)
        negative1 = coefficients1.sub_(positive1)
        lower_slope1 = torch.addcmul(self.relaxation1.active, self.relaxation1.is_open, dual1)
        slopes1 = positive1 * lower_slope1
        slopes1.addcmul_(negative1, self.relaxation1.slope)
        slopes1.addcmul_(self.beta_factor1, dual1, value=-1)
        slopes = torch.cat([slopes1, slopes2], dim=1)
        coefficients0 = self.groups.product(slopes, self.pixel_weights, D[places], -1)
        pixels = self.ball.minimiser(coefficients0)
        bound = (
            coefficients0.mul_(pixels).sum(dim=1)
            + self.groups.product(slopes, self.bias[:, :, None], self.no_addend)[:, 0]
            + (negative1 * self.relaxation1.intercept).sum(dim=1)
            + self.constant
        )
        return bound, pixels, positive1, negative1, lower_slope1


def _gap(
    positive: Tensor, negative: Tensor, z: Tensor, relaxation: Relaxation, alpha: Dual
) -> Tensor:
    rectified = z.clamp(min=0)
    above = torch.addcmul(relaxation.intercept, relaxation.slope, z) - rectified
    below = rectified - alpha.value * z
    return (positive * below - negative * above) * relaxation.is_open
