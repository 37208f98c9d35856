"""Bounds of Small's margins in float64, by code that shares nothing with the search for them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.certificate import (
    ALPHA_LEVELS,
    EPS_MARGIN,
    SmallCertificate,
    TargetProof,
)
from irpipe.certification.recheck_limits import (
    check_duals,
    check_levels,
    check_root,
    check_tree,
)
from irpipe.certification.recheck_network import SmallNetwork


def small_margins(
    network: SmallNetwork, image: Tensor, certificate: SmallCertificate
) -> dict[int, float]:
    """Return the lower bounds of the margins for each target, as `CertificateChecker.margins`.

    Raises IrpipeError if duals are outside their limits or leaves do not cover their place.
    """
    checker = _Checker(network, image, certificate)
    roots = [proof for proof in certificate.proofs if not proof.E.size]
    trees = [proof for proof in certificate.proofs if proof.E.size]
    parts = [checker.roots(certificate.label, roots)] if roots else []
    parts += [checker.tree(certificate.label, proof) for proof in trees]
    leaves, E, D = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    proofs = roots + trees
    targets = [int(proof.target) for proof in proofs]
    gamma = _stack(proofs, "gamma")
    check_duals(targets, "gamma", gamma)
    margins = leaves + checker.rest(gamma, E, D)
    margins += network.head_bias[certificate.label] - network.head_bias[targets]
    return dict(zip(targets, margins.tolist(), strict=True))


class _Relaxed(NamedTuple):
    """Linear bounds of relu(z) where l <= z <= u:

    (active + open alpha) z <= relu(z) <= slope z + offset,   0 <= alpha <= 1
    """

    is_open: Tensor
    active: Tensor
    slope: Tensor
    offset: Tensor

    @staticmethod
    def on(lower: Tensor, upper: Tensor) -> "_Relaxed":
        is_open = (lower < 0) & (upper > 0)
        active = (lower >= 0).to(lower)
        slope = torch.where(is_open, upper / (upper - lower), active)
        return _Relaxed(is_open.to(lower), active, slope, -lower * slope * is_open)

    def at(self, place: Tensor) -> "_Relaxed":
        return _Relaxed(*(tensor[place] for tensor in self))

    def lower_slope(self, alpha: Tensor) -> Tensor:
        return torch.addcmul(self.active, self.is_open, alpha)

    def split(self, sign: Tensor, is_inside: Tensor | float = 1.0) -> "_Relaxed":
        """Bounds where z >= 0 if `sign` is positive, z <= 0 if it is negative.

        There relu(z) is z or 0. What is not `is_inside` is 0 anyway.
        """
        is_split = sign != 0
        active = (sign > 0) * is_inside
        return _Relaxed(
            self.is_open.masked_fill(is_split, 0),
            torch.where(is_split, active, self.active),
            torch.where(is_split, active, self.slope),
            self.offset.masked_fill(is_split, 0),
        )


class _Checker:
    """One image's bounds in float64: the box, layer 1's intervals and layer 2's."""

    def __init__(self, network: SmallNetwork, image: Tensor, certificate: SmallCertificate) -> None:
        self.network = network
        clean = image.to(network.weight2)[None]
        eps = certificate.eps + EPS_MARGIN
        lowest, highest = (clean - eps).clamp(min=0), (clean + eps).clamp(max=1)
        self.center, self.radius = (lowest + highest) / 2, (highest - lowest) / 2
        center1 = network.conv1(self.center)
        stride, padding = network.conv1.stride, network.conv1.padding
        radius1 = F.conv2d(self.radius, network.conv1.weight.abs(), None, stride, padding)
        lower1, upper1 = center1 - radius1, center1 + radius1
        self.relaxed1 = _Relaxed.on(lower1, upper1)
        self.patch_relaxed1 = _Relaxed(*(network.hidden_patches(part) for part in self.relaxed1))
        self.patch_center = network.pixel_patches(self.center)
        self.patch_radius = network.pixel_patches(self.radius)
        lower2, upper2 = self._layer2(lower1, upper1, certificate)
        self.relaxed2 = _Relaxed.on(lower2, upper2)

    def roots(self, label: int, proofs: Sequence[TargetProof]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the leaves' part of T bounds without trees, `[T]`, and their E and D.

        With E_p = W2' Az2 and D = 0, nothing of layer 1 and of the image is left to the leaves.
        """
        network = self.network
        targets = [int(proof.target) for proof in proofs]
        for proof in proofs:
            check_root(proof, *network.sizes)
        alpha = _stack(proofs, "dual2")
        check_duals(targets, "dual2", alpha)
        m = network.head[label] - network.head[targets]
        slopes2, leaves = self._layer2_part(m, self.relaxed2, alpha)
        D = leaves.new_zeros(len(proofs), *self.patch_center.shape)
        return leaves.sum(dim=1), slopes2 @ network.weight2, D

    def tree(self, label: int, proof: TargetProof) -> tuple[Tensor, Tensor, Tensor]:
        """Return the leaves' part of one bound, `[1]`, and its E and D."""
        network = self.network
        check_tree(proof, *network.sizes)
        place = torch.as_tensor(proof.place).long()
        E, D, sign1, dual1, sign2, dual2 = (
            torch.as_tensor(array).to(network.weight2)
            for array in (proof.E, proof.D, proof.sign1, proof.dual1, proof.sign2, proof.dual2)
        )
        target = int(proof.target)
        check_duals([target], "dual1", dual1[None], sign1)
        check_duals([target], "dual2", dual2[None], sign2)
        m = (network.head[label] - network.head[target])[place]
        beta2 = sign2 * dual2
        slopes2, leaves = self._layer2_part(m, self.relaxed2.at(place).split(sign2), dual2, beta2)
        relaxed1 = self.patch_relaxed1.at(place).split(sign1, network.is_inside[place])
        rows = slopes2 @ network.weight2 - E[place]
        leaves = leaves + self._patch_bound(
            rows, relaxed1, dual1, place, sign1 * dual1, pixels=-D[place]
        )
        smallest = leaves.new_full((len(E),), torch.inf)
        smallest = smallest.scatter_reduce(0, place, leaves, "amin")
        return smallest.sum()[None], E[None], D[None]

    def _layer2_part(
        self, m: Tensor, relaxed: _Relaxed, alpha: Tensor, beta: Tensor | float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Az2 of m relu(z2) - beta z2 `[..., c2]`, and the constant of the bound, `[...]`."""
        negative = m.clamp(max=0)
        slopes = m.clamp(min=0) * relaxed.lower_slope(alpha) + negative * relaxed.slope - beta
        return slopes, slopes @ self.network.bias2 + (negative * relaxed.offset).sum(dim=-1)

    def rest(self, gamma: Tensor, E: Tensor, D: Tensor) -> Tensor:
        """Lower bounds `[T]` of (sum of E) h(x) + (sum of D) x over the ball."""
        network = self.network
        total = F.fold(E.transpose(1, 2), network.size1, **network.patches2)
        negative = total.clamp(max=0)
        slopes = total.clamp(min=0) * self.relaxed1.lower_slope(gamma)
        slopes = torch.addcmul(slopes, negative, self.relaxed1.slope)
        units = network.conv1.weight.flatten(1).t() @ slopes.flatten(2)
        pixels = F.fold(units, network.size0, **network.patches1)
        pixels = pixels + F.fold(D.transpose(1, 2), network.size0, **network.receptive)
        return (
            (pixels * self.center - pixels.abs() * self.radius).sum(dim=(1, 2, 3))
            + slopes.sum(dim=(2, 3)) @ network.bias1
            + (negative * self.relaxed1.offset).sum(dim=(1, 2, 3))
        )

    def _layer2(
        self, lower1: Tensor, upper1: Tensor, certificate: SmallCertificate
    ) -> tuple[Tensor, Tensor]:
        """Bounds of z2, `[P, c2]`: the best of those by intervals, CROWN's and the certificate's.

        CROWN bounds only what intervals leave open, and the certificate has alphas for the rest.
        """
        network = self.network
        lowest, highest = (network.hidden_patches(bound.clamp(min=0)) for bound in (lower1, upper1))
        positive, negative = network.positive2.t(), network.negative2.t()
        lower = lowest @ positive + highest @ negative + network.bias2
        upper = highest @ positive + lowest @ negative + network.bias2
        # Lower bounds of z2 and of -z2.
        bounds = torch.stack([lower, -upper])
        place, channel = torch.nonzero((lower < 0) & (upper > 0), as_tuple=True)
        alpha = (upper1 > -lower1).to(lower1)
        crown = self._crown(self.network.hidden_patches(alpha), place, channel)
        bounds[:, place, channel] = torch.maximum(bounds[:, place, channel], crown)
        self._raise(bounds, certificate)
        return bounds[0], -bounds[1]

    def _crown(self, alpha: Tensor, place: Tensor, channel: Tensor) -> Tensor:
        """Lower bounds of z2 and -z2, `[2, R]`, with lower slopes that a place's neurons share.

        With a lower and an upper slope s and t of layer 1, rows W2 and -W2 have

            Az1 = +-W2 (s + t) / 2 - |W2| (t - s) / 2

        so that two products of matrices serve both.
        """
        network = self.network
        relaxed = self.patch_relaxed1
        lower_slope = relaxed.lower_slope(alpha)
        mean, half = (lower_slope + relaxed.slope) / 2, (relaxed.slope - lower_slope) / 2
        center = torch.addmm(network.patch_bias1, self.patch_center, network.K.t())
        weight, size = network.weight2, network.weight2.abs()
        at_center = (mean * center) @ weight.t() + network.bias2
        spread = (half * center) @ size.t()
        offsets = [relaxed.offset @ part.t() for part in (network.negative2, -network.positive2)]
        constant = torch.stack([at_center, -at_center]) - spread + torch.stack(offsets)
        odd = (weight[channel] * mean[place]) @ network.K
        even = (size[channel] * half[place]) @ network.K
        radius = self.patch_radius[place]
        changes = [((even + sign * odd).abs() * radius).sum(dim=1) for sign in (-1, 1)]
        return constant[:, place, channel] - torch.stack(changes)

    def _raise(self, bounds: Tensor, certificate: SmallCertificate) -> None:
        """Raise lower bounds of z2 and -z2, `[2, P, c2]`, to those of the certificate's alphas."""
        check_levels("alpha", certificate.alpha)
        place, channel = (
            torch.as_tensor(array).long() for array in (certificate.place, certificate.channel)
        )
        is_upper = torch.as_tensor(certificate.is_upper).bool()
        alpha = torch.as_tensor(certificate.alpha).to(bounds) / ALPHA_LEVELS
        sign = 1.0 - 2.0 * is_upper.to(bounds)
        rows = sign[:, None] * self.network.weight2[channel]
        bound = self._patch_bound(rows, self.patch_relaxed1.at(place), alpha, place)
        position = (is_upper.long(), place, channel)
        bound = bound + sign * self.network.bias2[channel]
        bounds[position] = torch.maximum(bounds[position], bound)

    def _patch_bound(
        self,
        coefficients: Tensor,
        relaxed: _Relaxed,
        alpha: Tensor,
        place: Tensor,
        beta: Tensor | float = 0.0,
        pixels: Tensor | float = 0.0,
    ) -> Tensor:
        """Lower bounds `[n]` of `coefficients` h - `beta` z1 + `pixels` x on patches at `place`."""
        negative = coefficients.clamp(max=0)
        slopes = coefficients.clamp(min=0) * relaxed.lower_slope(alpha)
        slopes = torch.addcmul(slopes, negative, relaxed.slope) - beta
        pixels = slopes @ self.network.K + pixels
        return (
            (pixels * self.patch_center[place]).sum(dim=1)
            - (pixels.abs() * self.patch_radius[place]).sum(dim=1)
            + slopes @ self.network.patch_bias1
            + (negative * relaxed.offset).sum(dim=1)
        )


def _stack(proofs: Sequence[TargetProof], name: str) -> Tensor:
    """The arrays of this name in float64."""
    return torch.stack([torch.as_tensor(getattr(proof, name)) for proof in proofs]).double()
