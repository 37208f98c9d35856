"""Bounds of margins: alpha-CROWN, for all targets of a batch of images at once."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.dual import Dual
from irpipe.certification.patch_network import MarginNetwork, PatchNetwork
from irpipe.certification.relaxation import Ball, Interval, Relaxation, default_alpha, relax

# Margins that are bounded together; more do not fit into a CPU's cache.
ROWS_AT_ONCE = 18
N_STEPS = 40
# After so many steps, the margins whose bounds are high enough are left out.
STEPS_PER_CHECK = 10
STEP_SIZE = 0.15
STEP_DECAY = 0.95


class Margins(NamedTuple):
    """The margins f_label - f_t of a batch of images for all T other classes t:

        f_label - f_t = sum over places p of m_p relu(z2_p) + c,   m = M_label - M_t

    `targets` t is `[B, T]`, `coefficients` m `[B, T, P, c2]`, `constant` c `[B, T]`.
    """

    targets: Tensor
    coefficients: Tensor
    constant: Tensor


class MarginBounds(NamedTuple):
    """What alpha-CROWN says of B images and T targets.

    - `lower`: lower bounds of the margins, `[B, T]`;
    - `alpha1`, `alpha2`: the lower slopes that give them, `[B, T, c1, h, w]`, `[B, T, P, c2]`;
    - `minimiser`: the images x* at which the relaxed margins are smallest, `[B, T, C, H, W]`.
    """

    lower: Tensor
    alpha1: Tensor
    alpha2: Tensor
    minimiser: Tensor


def margins_of(network: MarginNetwork, labels: Tensor) -> Margins:
    """Return the margins of images with these `labels` `[B]`."""
    classes = torch.arange(len(network.head), device=labels.device)
    targets = torch.stack([classes[classes != label] for label in labels])
    coefficients = network.head[labels][:, None] - network.head[targets]
    constant = network.head_bias[labels][:, None] - network.head_bias[targets]
    return Margins(targets, coefficients, constant)


def margin_bounds(
    network: PatchNetwork,
    ball: Ball,
    interval1: Interval,
    interval2: Interval,
    margins: Margins,
    n_steps: int = N_STEPS,
    enough: float = math.inf,
) -> MarginBounds:
    """Return alpha-CROWN's bounds of `margins`; with no steps, CROWN's.

    A bound above `enough` is not raised further.
    """
    shape = margins.targets.shape
    relaxed = _Relaxed(network, ball, relax(interval1), relax(interval2), margins)
    all_rows = torch.arange(shape.numel(), device=margins.targets.device)
    image = all_rows // shape[1]
    alpha1, alpha2 = default_alpha(interval1)[image], default_alpha(interval2)[image]
    crown = [
        relaxed.rows(rows).bound(alpha1[rows], alpha2[rows])
        for rows in torch.split(all_rows, ROWS_AT_ONCE)
    ]
    lower, minimiser = (torch.cat(tensors) for tensors in zip(*crown, strict=True))
    bounds = MarginBounds(lower, alpha1, alpha2, minimiser)
    for rows in torch.split(all_rows[lower <= enough], ROWS_AT_ONCE):
        _raise_bounds(relaxed, bounds, rows, n_steps, enough)
    return MarginBounds(*(tensor.view(*shape, *tensor.shape[1:]) for tensor in bounds))


def _raise_bounds(
    relaxed: "_Relaxed", bounds: MarginBounds, rows: Tensor, n_steps: int, enough: float
) -> None:
    """Raise some `rows` of `bounds` by steps of Adam on the lower slopes of both layers."""
    margins = relaxed.rows(rows)
    alpha1 = Dual.starting_at(bounds.alpha1[rows], square_decay=0.99)
    alpha2 = Dual.starting_at(bounds.alpha2[rows], square_decay=0.99)
    step_size = STEP_SIZE
    for step in range(1, n_steps + 1):
        if not len(rows):
            return
        gradient1, gradient2 = margins.gradients(alpha1.value, alpha2.value)
        alpha1.ascend(gradient1, step_size, step)
        alpha2.ascend(gradient2, step_size, step)
        alpha1.value.clamp_(0, 1)
        alpha2.value.clamp_(0, 1)
        step_size *= STEP_DECAY
        if step % STEPS_PER_CHECK and step != n_steps:
            continue
        lower, minimiser = margins.bound(alpha1.value, alpha2.value)
        raised = MarginBounds(lower, alpha1.value, alpha2.value, minimiser)
        for tensor, values in zip(bounds, raised, strict=True):
            tensor[rows] = values
        is_open = lower <= enough
        if not is_open.all():
            rows, alpha1, alpha2 = rows[is_open], alpha1.rows(is_open), alpha2.rows(is_open)
            margins = relaxed.rows(rows)


class _Backwards(NamedTuple):
    """A1+ and A1-, active1 + open1 alpha1, Az1, Az2, A0 and x*."""

    positive1: Tensor
    negative1: Tensor
    lower_slope1: Tensor
    slopes1: Tensor
    slopes2: Tensor
    pixel_coefficients: Tensor
    point: Tensor


class _Relaxed(NamedTuple):
    """All that the margins of a batch of images depend on."""

    network: PatchNetwork
    ball: Ball
    relaxation1: Relaxation
    relaxation2: Relaxation
    margins: Margins

    def rows(self, rows: Tensor) -> "_RelaxedMargins":
        """Return some margins. Row i is that of image i // T and target i % T."""
        image = rows // self.margins.targets.shape[1]
        return _RelaxedMargins(
            self.network,
            Ball(*(tensor[image] for tensor in self.ball)),
            self.relaxation1.rows(image),
            self.relaxation2.rows(image),
            self.margins.coefficients.flatten(0, 1)[rows],
            self.margins.constant.flatten()[rows],
        )


class _RelaxedMargins:
    """Relaxed margins, one row for each image and target.

    Backwards from the margin, with parts m+ >= 0 and m- <= 0 of m (and of A1):

        Az2 = m+ (active2 + open2 alpha2) + m- slope2,    A1 = W2' Az2
        Az1 = A1+ (active1 + open1 alpha1) + A1- slope1,  A0 = W1' Az1
        bound = A0 x* + Az1 b1 + Az2 b2 + A1- intercept1 + m- intercept2 + c
        x* = x0 - r sign(A0)

    and forwards from x* for the gradients:

        z1* = W1 x* + b1,   h* = the relaxed relu(z1*),   z2* = W2 h* + b2
        d bound / d alpha2 = m+ open2 z2*,   d bound / d alpha1 = A1+ open1 z1*
    """

    def __init__(
        self,
        network: PatchNetwork,
        ball: Ball,
        relaxation1: Relaxation,
        relaxation2: Relaxation,
        coefficients: Tensor,
        constant: Tensor,
    ) -> None:
        self.network = network
        self.ball = ball
        self.relaxation1 = relaxation1
        positive = coefficients.clamp(min=0)
        negative = coefficients.clamp(max=0)
        # Az2 = fixed2 + movable2 * alpha2
        self.fixed2 = positive * relaxation2.active + negative * relaxation2.slope
        self.movable2 = positive * relaxation2.is_open
        self.constant = constant + (negative * relaxation2.intercept).sum(dim=(1, 2))

    def bound(self, alpha1: Tensor, alpha2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bounds `[rows]` and x*."""
        back = self._backwards(alpha1, alpha2)
        bound = (
            (back.pixel_coefficients * back.point).sum(dim=(1, 2, 3))
            + back.slopes1.sum(dim=(2, 3)) @ self.network.bias1
            + back.slopes2.sum(dim=1) @ self.network.bias2
            + (back.negative1 * self.relaxation1.intercept).sum(dim=(1, 2, 3))
            + self.constant
        )
        return bound, back.point

    def gradients(self, alpha1: Tensor, alpha2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the bounds for `alpha1` and `alpha2`."""
        back = self._backwards(alpha1, alpha2)
        z1 = self.network.layer1(back.point)
        above = torch.addcmul(self.relaxation1.intercept, z1, self.relaxation1.slope)
        hidden = torch.where(back.positive1 > 0, z1 * back.lower_slope1, above)
        z2 = self.network.layer2(hidden)
        return z1 * back.positive1 * self.relaxation1.is_open, z2 * self.movable2

    def _backwards(self, alpha1: Tensor, alpha2: Tensor) -> _Backwards:
        slopes2 = torch.addcmul(self.fixed2, self.movable2, alpha2)
        coefficients1 = self.network.layer2_adjoint(slopes2)
        positive1 = coefficients1.clamp(min=0)
        negative1 = coefficients1.clamp(max=0)
        lower_slope1 = torch.addcmul(self.relaxation1.active, self.relaxation1.is_open, alpha1)
        slopes1 = torch.addcmul(positive1 * lower_slope1, negative1, self.relaxation1.slope)
        coefficients0 = self.network.layer1_adjoint(slopes1)
        point = self.ball.minimiser(coefficients0)
        return _Backwards(
            positive1, negative1, lower_slope1, slopes1, slopes2, coefficients0, point
        )
