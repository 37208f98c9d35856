"""Check a certificate in float64, by code that shares nothing with the search for it."""

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.certification.certificate import (
    ALPHA_LEVELS,
    EPS_MARGIN,
    Certificate,
    PoolCertificate,
    SmallCertificate,
    TargetProof,
)
from irpipe.certification.cover import covers
from irpipe.certification.recheck_pool import bias_of, convolution_at, pool_margins
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network


def certified_margins(
    network: Network, image: Tensor, label: int, eps: float, certificate: Certificate
) -> dict[int, float]:
    """Return a lower bound of f_label - f_t for each other class t.

    It holds for all images within `eps` + EPS_MARGIN of `image` `[C, H, W]`, in real arithmetic.
    All bounds are computed anew in float64, from the network's weights and the certificate's
    duals. Raises IrpipeError if the certificate is not for this label, these classes and this
    eps, if a dual lies outside its limits, if the leaves of a place do not cover it, or if the
    network is of another architecture.
    """
    n_classes = len(network.head)
    if certificate.label != label:
        raise IrpipeError(f"certificate: is for label {certificate.label}, not {label}")
    if certificate.eps < eps:
        raise IrpipeError(f"certificate: is for eps {certificate.eps}, which is less than {eps}")
    targets = sorted(int(proof.target) for proof in certificate.proofs)
    others = sorted(set(range(n_classes)) - {label})
    if targets != others:
        raise IrpipeError(f"certificate: proves targets {targets}; expected {others}")
    if isinstance(certificate, PoolCertificate):
        margins = pool_margins(network, image, certificate)
    else:
        margins = _small_margins(network, image, certificate)
    # Numbers that are not finite prove nothing. min() of these margins must not pass over them.
    return {
        target: margin if math.isfinite(margin) else -math.inf for target, margin in margins.items()
    }


def _small_margins(network: Network, image: Tensor, certificate: Certificate) -> dict[int, float]:
    n_layers = len(list(network.backbone.children()))
    if not isinstance(certificate, SmallCertificate) or n_layers != 4:
        raise IrpipeError("certificate: is for the architecture Small; the network is another")
    checker = _Checker(network, image, certificate)
    label = certificate.label
    return {int(proof.target): checker.margin(label, proof) for proof in certificate.proofs}


def _relu_bounds(
    lower: Tensor, upper: Tensor, sign: Tensor, dual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of relu's lower and upper bound, and the upper one's offset, after the signs.

    `dual` is alpha where lower < 0 < upper and there is no sign. With a sign, relu is z or 0.
    """
    is_open = (lower < 0) & (upper > 0) & (sign == 0)
    is_active = ((lower >= 0) & (sign == 0)) | (sign > 0)
    exact = is_active.to(lower.dtype)
    upper_slope = torch.where(is_open, upper / (upper - lower), exact)
    offset = torch.where(is_open, -lower * upper_slope, 0.0)
    return torch.where(is_open, dual, exact), upper_slope, offset


class _Checker:
    """One image's bounds in float64: the box, layer 1's intervals and layer 2's."""

    def __init__(self, network: Network, image: Tensor, certificate: SmallCertificate) -> None:
        self.network = copy.deepcopy(network).to("cpu", torch.float64).requires_grad_(False)
        self.conv1 = convolution_at(self.network, 0)
        self.conv2 = convolution_at(self.network, 2)
        self.weight2 = self.conv2.weight.flatten(1)
        self.bias1 = bias_of(self.conv1)
        # A patch of layer 1 is z1 = composed' x + patch_bias1, x being the patch of the image.
        units = torch.eye(self.weight2.shape[1]).to(self.weight2)
        units = units.view(-1, len(self.bias1), *self.conv2.kernel_size)
        spread = F.conv_transpose2d(units, self.conv1.weight, stride=self.conv1.stride)
        self.composed = spread.flatten(1)
        self.patch_bias1 = self.bias1.repeat_interleave(math.prod(self.conv2.kernel_size))
        self.bias2 = bias_of(self.conv2)
        clean = image.to(self.weight2)[None]
        radius = certificate.eps + EPS_MARGIN
        lowest = (clean - radius).clamp(min=0)
        highest = (clean + radius).clamp(max=1)
        self.center = (lowest + highest) / 2
        self.radius = (highest - lowest) / 2
        center1 = self.conv1(self.center)
        stride, padding = self.conv1.stride, self.conv1.padding
        radius1 = F.conv2d(self.radius, self.conv1.weight.abs(), None, stride, padding)
        self.lower1 = center1 - radius1
        self.upper1 = center1 + radius1
        # A padded entry of layer 1 is 0, which relu is on an interval of negative values.
        is_inside = self._hidden_patches(torch.ones_like(center1)) > 0
        self.patch_lower1 = self._hidden_patches(self.lower1).where(is_inside, torch.tensor(-2.0))
        self.patch_upper1 = self._hidden_patches(self.upper1).where(is_inside, torch.tensor(-1.0))
        self.receptive = _receptive_field(self.conv1, self.conv2)
        self.patch_center = F.unfold(self.center, **self.receptive)[0].t()
        self.patch_radius = F.unfold(self.radius, **self.receptive)[0].t()
        self.head, self.head_bias = self._linear_head()
        self.lower2, self.upper2 = self._layer2(certificate)

    def margin(self, label: int, proof: TargetProof) -> float:
        """Return the lower bound of f_label - f_target that the duals of `proof` give.

        Raises IrpipeError if they are not valid.
        """
        target = int(proof.target)
        _check_limits(proof, len(self.lower2))
        coefficients = self.head[label] - self.head[target]
        place = torch.as_tensor(proof.place).long()
        sign2, dual2 = (
            torch.as_tensor(array).to(self.weight2) for array in (proof.sign2, proof.dual2)
        )
        m = coefficients[place]
        lower_slope, slope, offset = _relu_bounds(
            self.lower2[place], self.upper2[place], sign2, dual2
        )
        slopes2 = m.clamp(min=0) * lower_slope + m.clamp(max=0) * slope
        slopes2 = slopes2 - torch.where(sign2 != 0, sign2 * dual2, 0.0)
        if proof.E.size:
            E, D, sign1, dual1 = (
                torch.as_tensor(array).to(self.weight2)
                for array in (proof.E, proof.D, proof.sign1, proof.dual1)
            )
            leaf = self._patch_bound(
                slopes2 @ self.weight2 - E[place], place, sign1, dual1, pixels=-D[place]
            )
        else:
            # With this E and D, nothing of layer 1 and of the image is left to the leaves.
            E, D = slopes2 @ self.weight2, torch.zeros_like(self.patch_center)
            leaf = slopes2.new_zeros(len(slopes2))
        leaf = leaf + slopes2 @ self.bias2 + (m.clamp(max=0) * offset).sum(dim=1)
        smallest = leaf.new_full((len(self.lower2),), torch.inf)
        smallest = smallest.scatter_reduce(0, place, leaf, "amin")
        constant = self.head_bias[label] - self.head_bias[target]
        return float(smallest.sum() + self._rest(proof, E, D) + constant)

    def _rest(self, proof: TargetProof, E: Tensor, D: Tensor) -> Tensor:
        """Lower bound of (sum of E) h(x) + (sum of D) x over the ball."""
        gamma = torch.as_tensor(proof.gamma).to(self.weight2)[None]
        total = F.fold(E.t()[None], self.lower1.shape[2:], **_patches(self.conv2))
        unsigned = torch.zeros_like(gamma)
        lower_slope, slope, offset = _relu_bounds(self.lower1, self.upper1, unsigned, gamma)
        slopes = total.clamp(min=0) * lower_slope + total.clamp(max=0) * slope
        size = self.center.shape[2:]
        units = self.conv1.weight.flatten(1).t() @ slopes[0].flatten(1)
        pixels = F.fold(units[None], size, **_patches(self.conv1))
        pixels = pixels + F.fold(D.t()[None], size, **self.receptive)
        return (
            (pixels * self.center).sum()
            - (pixels.abs() * self.radius).sum()
            + slopes.sum(dim=(0, 2, 3)) @ self.bias1
            + (total.clamp(max=0) * offset).sum()
        )

    def _layer2(self, certificate: SmallCertificate) -> tuple[Tensor, Tensor]:
        """Bounds of z2, `[P, c2]`: the best of those by intervals, CROWN's and the certificate's.

        CROWN bounds only what intervals leave open, and the certificate has alphas for the rest.
        """
        positive, negative = self.weight2.clamp(min=0).t(), self.weight2.clamp(max=0).t()
        lowest, highest = self.patch_lower1.clamp(min=0), self.patch_upper1.clamp(min=0)
        lower = lowest @ positive + highest @ negative + self.bias2
        upper = highest @ positive + lowest @ negative + self.bias2
        # Lower bounds of z2 and of -z2.
        bounds = torch.stack([lower, -upper])
        is_open = ((lower < 0) & (upper > 0)).expand(2, -1, -1)
        crown_alpha = (self.patch_upper1 > -self.patch_lower1).to(self.weight2)
        is_upper, place, channel = torch.nonzero(is_open, as_tuple=True)
        self._raise(bounds, is_upper, place, channel, crown_alpha[place])
        place, channel, is_upper = (
            torch.as_tensor(array).long()
            for array in (certificate.place, certificate.channel, certificate.is_upper)
        )
        alpha = torch.as_tensor(certificate.alpha).to(self.weight2) / ALPHA_LEVELS
        self._raise(bounds, is_upper, place, channel, alpha)
        return bounds[0], -bounds[1]

    def _raise(
        self, bounds: Tensor, is_upper: Tensor, place: Tensor, channel: Tensor, alpha: Tensor
    ) -> None:
        """Raise lower bounds of z2 and -z2, `[2, P, c2]`, to those that `alpha` `[R, a]` gives."""
        sign = 1.0 - 2.0 * is_upper.to(self.weight2)
        rows = sign[:, None] * self.weight2[channel]
        bound = self._patch_bound(rows, place, torch.zeros_like(rows), alpha)
        position = (is_upper, place, channel)
        bounds[position] = torch.maximum(bounds[position], bound + sign * self.bias2[channel])

    def _patch_bound(
        self,
        coefficients: Tensor,
        place: Tensor,
        sign: Tensor,
        dual: Tensor,
        pixels: Tensor | float = 0.0,
    ) -> Tensor:
        """Lower bounds of `coefficients` h + `pixels` x over the patches at `place`, `[n]`.

        Where there is a sign, the dual is beta, of z >= 0 or z <= 0, else it is alpha.
        """
        lower_slope, slope, offset = _relu_bounds(
            self.patch_lower1[place], self.patch_upper1[place], sign, dual
        )
        negative = coefficients.clamp(max=0)
        slopes = coefficients.clamp(min=0) * lower_slope + negative * slope
        slopes = slopes - torch.where(sign != 0, sign * dual, 0.0)
        pixels = slopes @ self.composed + pixels
        return (
            (pixels * self.patch_center[place]).sum(dim=1)
            - (pixels.abs() * self.patch_radius[place]).sum(dim=1)
            + slopes @ self.patch_bias1
            + (negative * offset).sum(dim=1)
        )

    def _linear_head(self) -> tuple[Tensor, Tensor]:
        """The logits as an affine function of relu(z2): `[classes, P, c2]` and `[classes]`."""
        n_places, n_channels = len(self.patch_lower1), len(self.bias2)
        shape = self.conv2(self.conv1(self.center)).shape[1:]
        weight, bias, padding = self.network.map_convolution()
        hidden = torch.zeros(len(weight), *shape).to(self.weight2).requires_grad_()
        with torch.enable_grad():
            logits = F.conv2d(hidden, weight, bias, padding=padding).mean(dim=(2, 3))
            (gradient,) = torch.autograd.grad(logits.diagonal().sum(), hidden)
        head = gradient.reshape(len(weight), n_channels, n_places).transpose(1, 2)
        return head, logits[0].detach()

    def _hidden_patches(self, hidden: Tensor) -> Tensor:
        """The patches of layer 1 that places see, `[P, a]`."""
        return F.unfold(hidden, **_patches(self.conv2))[0].t()


def _patches(conv: nn.Conv2d) -> dict[str, Any]:
    """The patches that a convolution sees, as arguments of unfold."""
    return {"kernel_size": conv.kernel_size, "padding": conv.padding, "stride": conv.stride}


def _receptive_field(conv1: nn.Conv2d, conv2: nn.Conv2d) -> dict[str, Any]:
    """The patches of the image that places of `conv2` see, as arguments of unfold."""
    stride = conv1.stride[0]
    return {
        "kernel_size": conv1.kernel_size[0] + stride * (conv2.kernel_size[0] - 1),
        "padding": int(conv1.padding[0]) + stride * int(conv2.padding[0]),
        "stride": stride * conv2.stride[0],
    }


def _check_limits(proof: TargetProof, n_places: int) -> None:
    """Raise IrpipeError if a dual is outside its limits or leaves do not cover their place."""
    location = f"certificate: target {int(proof.target)}"
    for name, dual, sign in (
        ("gamma", proof.gamma, np.zeros_like(proof.gamma)),
        ("dual1", proof.dual1, proof.sign1),
        ("dual2", proof.dual2, proof.sign2),
    ):
        if not (np.isfinite(dual).all() and (dual >= 0).all()):
            raise IrpipeError(f"{location}: {name} has values that are not in [0, infinity)")
        if (dual[sign == 0] > 1).any():
            raise IrpipeError(f"{location}: {name} has an alpha that is greater than 1")
    signs = np.concatenate([proof.sign1, proof.sign2], axis=1)
    if not proof.E.size:
        if signs.any() or not np.array_equal(proof.place, np.arange(n_places)):
            raise IrpipeError(f"{location}: has no E, so there must be one leaf for each place")
        return
    for place in range(n_places):
        if not covers(signs[proof.place == place]):
            raise IrpipeError(f"{location}: the leaves of place {place} do not cover it")
