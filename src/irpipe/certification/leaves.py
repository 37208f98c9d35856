"""The leaves of the trees of all places, and the lower bounds that they give."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.chunks import Chunks, chunk_order
from irpipe.certification.dual import Dual
from irpipe.certification.place_terms import PlaceTerms
from irpipe.certification.relaxation import Ball, default_alpha

NO_LIMIT = 1e9


@dataclass
class Leaves:
    """The leaves of the trees, N of all places together.

    A leaf restricts the open neurons that its tree has split: z >= 0 where the sign is 1, z <= 0
    where it is -1. `sign` is int8, `[N, k1 + k2]`, with the neurons of `PlaceTerms`. `dual` has
    this shape, too. It is alpha where a neuron is open, and beta over its unit where it is split.
    """

    place: Tensor
    sign: Tensor
    dual: Dual

    @staticmethod
    def roots(terms: PlaceTerms, alpha2: Tensor) -> "Leaves":
        """Return one leaf for each place, with CROWN's alpha1 and the `alpha2` `[P, c2]`."""
        alpha = default_alpha(terms.interval)
        alpha[:, terms.n_entries :] = terms.of_channels(alpha2)
        return Leaves(
            place=torch.arange(len(alpha), device=alpha.device),
            sign=torch.zeros_like(alpha, dtype=torch.int8),
            dual=Dual.starting_at(alpha),
        )

    def rows(self, rows: Tensor) -> "Leaves":
        """Return a copy of these leaves, in this order."""
        return Leaves(self.place[rows], self.sign[rows], self.dual.rows(rows))

    def store(self, rows: Tensor, other: "Leaves") -> None:
        """Replace some leaves by those of `other`, which have the same places."""
        self.sign[rows] = other.sign
        self.dual.store(rows, other.dual)

    def append(self, other: "Leaves") -> None:
        """Add the leaves of `other` at the end."""
        self.place = torch.cat([self.place, other.place])
        self.sign = torch.cat([self.sign, other.sign])
        self.dual.append(other.dual)

    def in_chunks(self) -> "Leaves":
        """Return the leaves in the order that `LeafBounds` wants."""
        return self.rows(chunk_order(self.place))


class MarginTerms(NamedTuple):
    """What the places need of one margin, sum over p of m_p relu(z2_p) + c.

    - `coefficients`: m of the open channels, `[P, k2]`;
    - `hidden`, `pixels`: m W2_p and m L_p of the channels with l2 >= 0, `[P, k1]`, `[P, q + 1]`;
    - `scale`: the units of beta, `[P, k1 + k2]`.
    """

    coefficients: Tensor
    hidden: Tensor
    pixels: Tensor
    scale: Tensor


def margin_terms(terms: PlaceTerms, coefficients: Tensor, scale1: float) -> MarginTerms:
    """Return the terms of the margin with these `coefficients` `[P, c2]`.

    `scale1` is the unit of layer 1's beta.
    """
    active = (coefficients * terms.relaxation2.active)[:, None]
    size = coefficients.abs()
    scale2 = terms.of_channels(size) + 0.05 * size.mean(dim=1, keepdim=True)
    return MarginTerms(
        coefficients=terms.of_channels(coefficients),
        hidden=(active @ terms.channel_weights)[:, 0],
        pixels=(active @ terms.channel_linear)[:, 0],
        scale=torch.cat([torch.full_like(terms.is_entry, scale1), scale2], dim=1),
    )


class LeafPoint(NamedTuple):
    """Where leaves' relaxations are smallest, one row per leaf, and what steps and splits need.

    `bound` `[N]`; `pixels` x* `[N, q + 1]`; `hidden` h* `[N, k1]`; `z` (z1*, z2*) and `movable`,
    by which the bound depends on the duals, `[N, k1 + k2]`; `positive1` A1+ and `negative1` A1-
    `[N, k1]`.
    """

    bound: Tensor
    pixels: Tensor
    hidden: Tensor
    z: Tensor
    movable: Tensor
    positive1: Tensor
    negative1: Tensor


class LeafBounds:
    """Lower bounds of leaves for multipliers E `[P, k1]` and D `[P, q + 1]`.

    `leaves` are in chunks. On the leaf with signs S1 and S2 of place p, with M = m W2_p and
    N = m L_p of the channels that are not open,

        m_p relu(z2_p) - E_p h_p - D_p x_p >= bound

        Az2 = m+ (active2 + open2 alpha2) + m- slope2 - S2 beta2
        A1 = Az2 W2_p + M_p - E_p
        Az1 = A1+ (active1 + open1 alpha1) + A1- slope1 - S1 beta1
        A0 = Az1 K_p + Az2 L_p + N_p - D_p
        bound = A0 x* + A1- intercept1 + m- intercept2,  x* = x0 - r sign(A0)

    where active, open, slope and intercept are those of the leaf: a split neuron is not open.
    beta >= 0 is a dual in units of `margin.scale`, since Adam's steps have one size.
    """

    def __init__(self, terms: PlaceTerms, margin: MarginTerms, leaves: Leaves) -> None:
        place = leaves.place
        n_entries = terms.n_entries
        self.terms = terms
        self.margin = margin
        self.leaves = leaves
        self.chunks = Chunks(place)
        self.ball = Ball(terms.ball.center[place], terms.ball.radius[place])
        sign = leaves.sign.to(margin.scale.dtype)
        self.relaxation = terms.relaxation.rows(place).split(sign)
        self.positive2 = margin.coefficients[place].clamp(min=0)
        self.negative2 = margin.coefficients[place].clamp(max=0)
        relaxation1 = tuple(tensor[:, :n_entries].contiguous() for tensor in self.relaxation)
        self.open1, self.active1, self.slope1, self.intercept1 = relaxation1
        open2, active2, slope2, intercept2 = (
            tensor[:, n_entries:].contiguous() for tensor in self.relaxation
        )
        # Az = fixed + movable * dual; layer 1's depend on A1.
        unit = sign * margin.scale[place]
        self.beta_unit1 = unit[:, :n_entries].contiguous()
        self.fixed2 = self.positive2 * active2 + self.negative2 * slope2
        self.movable2 = self.positive2 * open2 - unit[:, n_entries:]
        self.constant = (self.negative2 * intercept2).sum(dim=1)
        # alpha may not exceed 1, beta has no limit.
        self.limit = torch.where(leaves.sign != 0, NO_LIMIT, self.relaxation.is_open)
        self.weight2 = terms.weight2[self.chunks.places]
        self.linear = terms.linear[self.chunks.places]

    def bounds(self, E: Tensor, D: Tensor) -> Tensor:
        """Return the bounds of the leaves, `[N]`."""
        return self.points(E, D).bound

    def points(self, E: Tensor, D: Tensor) -> LeafPoint:
        """Return the bounds of the leaves and where they are reached:

        z1* = K_p x*,   h* = the relaxed relu(z1*),   z2* = W2_p h* + L_p x*
        """
        n_entries = self.terms.n_entries
        places = self.chunks.places
        dual = self.leaves.dual.value
        slopes, movable = torch.empty_like(dual), torch.empty_like(dual)
        movable[:, n_entries:] = self.movable2
        slopes[:, n_entries:] = torch.addcmul(self.fixed2, self.movable2, dual[:, n_entries:])
        E, D = E - self.margin.hidden, D - self.margin.pixels
        coefficients1 = self.chunks.product(slopes[:, n_entries:], self.weight2, E[places])
        positive1 = coefficients1.clamp(min=0)
        negative1 = coefficients1.sub_(positive1)
        movable1 = torch.addcmul(-self.beta_unit1, positive1, self.open1)
        slopes1 = movable1 * dual[:, :n_entries]
        slopes1.addcmul_(positive1, self.active1).addcmul_(negative1, self.slope1)
        slopes[:, :n_entries] = slopes1
        movable[:, :n_entries] = movable1
        coefficients0 = self.chunks.product(slopes, self.linear, D[places])
        pixels = self.ball.minimiser(coefficients0)
        bound = coefficients0.mul_(pixels).sum(dim=1)
        bound += (negative1 * self.intercept1).sum(dim=1) + self.constant
        z = self.chunks.product(pixels, self.linear.transpose(1, 2))
        hidden = self._hidden(z[:, :n_entries], positive1)
        z[:, n_entries:] += self.chunks.product(hidden, self.weight2.transpose(1, 2))
        return LeafPoint(bound, pixels, hidden, z, movable, positive1, negative1)

    def _hidden(self, z1: Tensor, positive1: Tensor) -> Tensor:
        """Return the relaxed relu(z1): its lower bound where A1 > 0, else its upper one."""
        alpha = self.leaves.dual.value[:, : self.terms.n_entries]
        is_positive = positive1.sign()
        slope = torch.addcmul(self.active1, self.open1, alpha)
        slope = torch.lerp(self.slope1, slope, is_positive)
        hidden = torch.addcmul(self.intercept1, self.intercept1, is_positive, value=-1)
        return hidden.addcmul_(slope, z1)

    def ascend(self, point: LeafPoint, step_size: float, n_steps: int) -> None:
        """Take a step of Adam with the leaves' duals:

        d bound / d alpha1 = A1+ open1 z1*,   d bound / d beta1 = -S1 z1*, and so for layer 2
        """
        dual = self.leaves.dual
        dual.ascend(point.movable * point.z, step_size, n_steps)
        dual.value.clamp_(min=0)
        torch.minimum(dual.value, self.limit, out=dual.value)

    def gaps(self, point: LeafPoint, z: Tensor) -> Tensor:
        """Return the error of each neuron's relaxation at z, `[N, k1 + k2]`.

        It is how far the relaxed relu lies from relu, times the coefficient of the neuron.
        """
        positive = torch.cat([point.positive1, self.positive2], dim=1)
        negative = torch.cat([point.negative1, self.negative2], dim=1)
        rectified = z.clamp(min=0)
        above = torch.addcmul(self.relaxation.intercept, self.relaxation.slope, z) - rectified
        below = rectified - self.leaves.dual.value * z
        return (positive * below - negative * above) * self.relaxation.is_open
