"""Zonotopes that contain all that class activation maps change by within eps (docs/certify.md)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.certification.certificate import EPS_MARGIN
from irpipe.certification.layer2_bounds import layer2_interval
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.relaxation import (
    Ball,
    Interval,
    clipped_ball,
    layer1_interval,
    relax,
)
from irpipe.networks.network import Network


class MapNetwork:
    """A network of the architecture Small whose class activation maps, of u entries each, are

        L(x, c)_i = sum over places p of rows_cip relu(z2_p) + constant

    They are those of paper eq (1), with the factor 1 / u, so that a map sums to its logit (C.3 T1).
    The constants do not depend on i.

    - `network`: a copy in `dtype`; `patches`: the same as products of matrices;
    - `rows`: `[classes, u, P, c2]`.

    `shape` is an image's (C, H, W). Raises IrpipeError if the network is no Small.
    """

    def __init__(
        self, network: Network, shape: Sequence[int], dtype: torch.dtype = torch.float64
    ) -> None:
        network = copy.deepcopy(network).to(dtype).requires_grad_(False)
        self.network = network
        self.patches = PatchNetwork(network, shape)
        height, width = network.maps(network.head.new_zeros(1, *shape)).shape[2:]
        n_entries = height * width
        units = torch.eye(n_entries, dtype=dtype, device=network.head.device)
        weight, _, padding = network.map_convolution()
        rows = F.conv_transpose2d(
            units.view(n_entries, 1, height, width), weight.flatten(0, 1)[None], padding=padding
        )
        rows = rows.view(n_entries, *weight.shape[:2], self.patches.n_places) / n_entries
        self.rows = rows.permute(1, 0, 3, 2).contiguous()


@dataclass(frozen=True)
class MapZonotope:
    """All that the maps of one image x may change by within eps.

    For each image x' there is a t with |t_j| <= 1 such that

        L(x', c)_i - L(x, c)_i = sum over j of G_cij t_j

    - `generators`: G, `[classes, u, J]`. The first one is the zonotope's centre, with t_0 = 1;
      since a norm of G t is that of -G t, a bound of it may forget that t_0 is fixed.
    - `ball`, `interval1`, `interval2`: the images and the bounds of z1 and z2, `[1, ...]`.
    """

    generators: Tensor
    ball: Ball
    interval1: Interval
    interval2: Interval


def map_zonotope(network: MapNetwork, clean: Tensor, eps: float) -> MapZonotope:
    """Return the zonotope of one image `clean` `[C, H, W]`.

    A ReLU that is open lies between two parallel lines:

        relu(z) = slope z + intercept / 2 (1 + t),   |t| <= 1

    Backwards from the maps, the generators of layer 2 and of layer 1 are the coefficients of
    their t, and those of the pixels are A0 r.
    """
    patches = network.patches
    clean = clean.to(network.rows)[None]
    ball = clipped_ball(clean, eps + EPS_MARGIN)
    interval1 = layer1_interval(patches, ball)
    interval2, _ = layer2_interval(patches, ball, interval1)
    relaxation1, relaxation2 = relax(interval1), relax(interval2)
    rows = network.rows.flatten(0, 1)
    hidden2 = patches.layer2(patches.layer1(clean).relu()).relu()
    errors2 = rows * relaxation2.intercept / 2
    slopes2 = rows * relaxation2.slope
    coefficients1 = patches.layer2_adjoint(slopes2)
    errors1 = coefficients1 * relaxation1.intercept / 2
    slopes1 = coefficients1 * relaxation1.slope
    coefficients0 = patches.layer1_adjoint(slopes1)
    center = (
        errors2.sum(dim=(1, 2))
        + slopes2.sum(dim=1) @ patches.bias2
        + errors1.sum(dim=(1, 2, 3))
        + slopes1.sum(dim=(2, 3)) @ patches.bias1
        + (coefficients0 * ball.center).sum(dim=(1, 2, 3))
        - (rows * hidden2).sum(dim=(1, 2))
    )
    generators = torch.cat(
        [
            center[:, None],
            (coefficients0 * ball.radius).flatten(1),
            errors1[:, relaxation1.is_open[0] > 0],
            errors2[:, relaxation2.is_open[0] > 0],
        ],
        dim=1,
    )
    return MapZonotope(generators.view(*network.rows.shape[:2], -1), ball, interval1, interval2)
