"""Check a certificate of Pool in float64, by code that shares nothing with the search for it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.certification.certificate import (
    EPS_MARGIN,
    WEIGHT_LEVELS,
    PoolCertificate,
    PoolTargetProof,
)
from irpipe.certification.recheck_limits import check_levels
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network

# The neighbours of a max-pooling lie so far below and to the right of the first.
NEIGHBOURS = ((0, 0), (0, 1), (1, 0), (1, 1))


def pool_margins(network: Network, image: Tensor, certificate: PoolCertificate) -> dict[int, float]:
    """Return the lower bounds of the margins for each target, as `CertificateChecker.margins`.

    `network` is in float64. Raises IrpipeError if weights are outside their limits.
    """
    checker = _Checker(network, image, certificate)
    margins = checker.margins(certificate.label, certificate.proofs)
    targets = [int(proof.target) for proof in certificate.proofs]
    return dict(zip(targets, margins.tolist(), strict=True))


class _Checker:
    """One image's bounds in float64.

    `size1` and `size2` are those of the layers after max-pooling, `grid1` and `grid2` the heights
    and widths before.
    """

    def __init__(self, network: Network, image: Tensor, certificate: PoolCertificate) -> None:
        self.network = network
        self.conv1, self.conv2 = (convolution_at(self.network, index) for index in (0, 3))
        clean = image.to("cpu", torch.float64)[None]
        radius = certificate.eps + EPS_MARGIN
        lowest, highest = (clean - radius).clamp(min=0), (clean + radius).clamp(max=1)
        self.center, self.radius = (highest + lowest) / 2, (highest - lowest) / 2
        layer1 = self.conv1(clean)
        hidden1 = F.max_pool2d(layer1, 2)
        layer2 = self.conv2(hidden1)
        self.grid1, self.grid2 = layer1.shape[2:], layer2.shape[2:]
        self.size1, self.size2 = hidden1.shape[1:], F.max_pool2d(layer2, 2).shape[1:]
        self.mu1 = self._of_layer1(certificate.mu1)
        self.mu2 = self._of_layer2(_finite(certificate.mu2))
        self.offset1 = self._offset_of_layer1()
        self.offset2 = self._offset_of_layer2(_weights(certificate.lambda1, "lambda1"))

    def margins(self, label: int, proofs: tuple[PoolTargetProof, ...]) -> Tensor:
        """Return the lower bounds of f_label - f_target, one per proof."""
        weight, head_bias = self._linear_head()
        bounds = []
        for proof in proofs:
            target = int(proof.target)
            location = f"target {target}: lambda"
            lambda1 = self._of_layer1(_weights(proof.lambda1, f"{location}1"))
            lambda2 = self._of_layer2(_weights(proof.lambda2, f"{location}2", is_full=True))
            m = weight[label] - weight[target]
            positive, negative = m.clamp(min=0), m.clamp(max=0)
            rows = positive[..., None] * lambda2 + negative[..., None] * self.mu2
            constant = (negative * self.offset2).sum() + m.sum(dim=(1, 2)) @ bias_of(self.conv2)
            constant = constant + head_bias[label] - head_bias[target]
            bounds.append(self._lowest(rows, lambda1) + constant)
        return torch.stack(bounds)

    def _lowest(self, rows: Tensor, lambda1: Tensor) -> Tensor:
        """Lower bound of `rows` `[c2, h, w, 4]` times z2 without bias, with these lambda."""
        layer2 = _to_neighbours(rows, self.grid2)[None]
        units = F.conv_transpose2d(layer2, self.conv2.weight, padding=_padding(self.conv2))[0]
        positive, negative = units.clamp(min=0), units.clamp(max=0)
        below = positive[..., None] * lambda1
        layer1 = _to_neighbours(below + negative[..., None] * self.mu1, self.grid1)[None]
        pixels = F.conv_transpose2d(layer1, self.conv1.weight, padding=_padding(self.conv1))
        return (
            (pixels * self.center).sum()
            - (pixels.abs() * self.radius).sum()
            + below.sum(dim=(1, 2, 3)) @ bias_of(self.conv1)
            + (negative * self.offset1).sum()
        )

    def _of_layer1(self, array: np.ndarray) -> Tensor:
        """Weights `[c1, h, w, 4]` of an array `[c1, U, 4]`."""
        channels, height, width = self.size1
        _check_shape(array, (channels, height * width, 4))
        return torch.as_tensor(_finite(array)).double().view(*self.size1, 4)

    def _of_layer2(self, array: np.ndarray) -> Tensor:
        """Weights `[c2, h, w, 4]` of an array `[P, c2, 4]`."""
        channels, height, width = self.size2
        _check_shape(array, (height * width, channels, 4))
        return torch.as_tensor(array).double().view(height, width, channels, 4).permute(2, 0, 1, 3)

    def _offset_of_layer1(self) -> Tensor:
        """c of layer 1, `[c1, h, w]`: the largest of exact upper bounds on the ball."""
        functions = _neighbour_functions(self.conv1)
        patches = {"kernel_size": self.conv1.kernel_size[0] + 1, "stride": 2}
        patches["padding"] = _padding(self.conv1)
        center, radius = (
            F.unfold(tensor, **patches)[0].t() for tensor in (self.center, self.radius)
        )
        line = torch.einsum("chwi,ciq->chwq", self.mu1, functions).flatten(1, 2)
        bias = bias_of(self.conv1)[:, None]
        offset = _highest(-line, center, radius)
        for function in functions.unbind(dim=1):
            above = _highest(function[:, None] - line, center, radius) + bias
            offset = torch.maximum(offset, above)
        return offset.view(self.size1)

    def _offset_of_layer2(self, levels: np.ndarray) -> Tensor:
        """c of layer 2 without its bias, `[c2, h, w]`, by bounds place by place."""
        lambda1 = self._of_layer1(levels)
        functions = _neighbour_functions(self.conv1)
        slopes = [torch.einsum("chwi,ciq->chwq", w, functions) for w in (self.mu1, lambda1)]
        bias = bias_of(self.conv1)[:, None, None]
        constants = [self.offset1[..., None], (lambda1.sum(dim=-1) * bias)[..., None]]
        # Those above h1 and then those below.
        lines, offsets = (
            torch.cat([self._windows(values) for values in pair], dim=1)
            for pair in (slopes, constants)
        )
        receptive = self.conv1.kernel_size[0] + 1 + 2 * self.conv2.kernel_size[0]
        padding = _padding(self.conv1) + 2 * _padding(self.conv2)
        patches = {"kernel_size": receptive, "stride": 4, "padding": padding}
        centers, radii = (
            F.unfold(tensor, **patches)[0].t() for tensor in (self.center, self.radius)
        )
        weights = _neighbour_functions(self.conv2)
        largest = []
        for place, mu in enumerate(self.mu2.flatten(1, 2).unbind(dim=1)):
            rows = (weights - torch.einsum("ci,cia->ca", mu, weights)[:, None]).flatten(0, 1)
            rows = torch.cat([rows.clamp(min=0), rows.clamp(max=0)], dim=1)
            pixels = self._by_pixel(rows, lines[place])
            highest = pixels @ centers[place] + pixels.abs() @ radii[place]
            highest += rows @ offsets[place].flatten()
            largest.append(highest.view(-1, 4).amax(dim=1))
        return torch.stack(largest, dim=1).view(self.size2)

    def _windows(self, values: Tensor) -> Tensor:
        """The parts of `[c1, h, w, n]` that places of layer 2 see, `[P, c1, k, k, n]`."""
        size, padding = self.conv2.kernel_size[0] + 1, _padding(self.conv2)
        padded = F.pad(values, (0, 0, padding, padding, padding, padding))
        windows = padded.unfold(1, size, 2).unfold(2, size, 2)
        return windows.permute(1, 2, 0, 4, 5, 3).flatten(0, 1)

    def _by_pixel(self, rows: Tensor, window: Tensor) -> Tensor:
        """`rows` `[n, c k k]` times the lines `[c, k, k, q1]` of a place, by pixel, `[n, q]`."""
        rows = rows.view(len(rows), len(window), -1)
        by_unit = torch.einsum("ncu,cuq->nqu", rows, window.flatten(1, 2))
        size = self.conv1.kernel_size[0] + 1
        receptive = size + 2 * (window.shape[1] - 1)
        return F.fold(by_unit, (receptive, receptive), size, stride=2).flatten(1)

    def _linear_head(self) -> tuple[Tensor, Tensor]:
        """The logits as an affine function of h2: `[classes, c2, h, w]` and `[classes]`."""
        weight, bias, padding = self.network.map_convolution()
        hidden = torch.zeros(len(weight), *self.size2, dtype=torch.float64).requires_grad_()
        with torch.enable_grad():
            logits = F.conv2d(hidden, weight, bias, padding=padding).mean(dim=(2, 3))
            (gradient,) = torch.autograd.grad(logits.diagonal().sum(), hidden)
        return gradient, logits[0].detach()


def _neighbour_functions(conv: nn.Conv2d) -> Tensor:
    """The linear functions of a patch at its four neighbours, `[channels, 4, patch]`."""
    size, weight = conv.kernel_size[0], conv.weight
    functions = weight.new_zeros(len(weight), 4, weight.shape[1], size + 1, size + 1)
    for i, (down, right) in enumerate(NEIGHBOURS):
        functions[:, i, :, down : down + size, right : right + size] = weight
    return functions.flatten(2)


def _highest(functions: Tensor, center: Tensor, radius: Tensor) -> Tensor:
    """Upper bounds `[c, U]` of linear `functions` `[c, U, q]` of patches `[U, q]`."""
    return (functions * center).sum(dim=-1) + (functions.abs() * radius).sum(dim=-1)


def _to_neighbours(values: Tensor, grid: Sequence[int]) -> Tensor:
    """Put `[channels, h, w, 4]` at the places of the four neighbours, `[channels, *grid]`.

    Max-pooling ignores the last row and column of a grid of odd size.
    """
    channels, height, width, _ = values.shape
    pairs = values.reshape(channels, height, width, 2, 2).transpose(2, 3)
    placed = pairs.reshape(channels, 2 * height, 2 * width)
    return F.pad(placed, (0, grid[1] - 2 * width, 0, grid[0] - 2 * height))


def _check_shape(weights: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Raise IrpipeError unless weights of four functions have this shape.

    In another one, the sums that `_weights` limits would be those of fewer functions.
    """
    if weights.shape != shape:
        raise IrpipeError(f"certificate: has weights of shape {weights.shape}; expected {shape}")


def _weights(levels: np.ndarray, name: str, is_full: bool = False) -> np.ndarray:
    """Return stored weights lambda.

    Raises IrpipeError if they are not uint8 or if a sum is not at most 1; if `is_full`, not 1.
    """
    check_levels(name, levels)
    total = levels.sum(axis=-1, dtype=np.int64)
    if (total > WEIGHT_LEVELS).any():
        raise IrpipeError(f"certificate: {name} has weights with a sum above 1")
    if is_full and (total != WEIGHT_LEVELS).any():
        raise IrpipeError(f"certificate: {name} has weights whose sum is not 1")
    weights: np.ndarray = levels / WEIGHT_LEVELS
    return weights


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise IrpipeError("certificate: mu has values that are not finite")
    return values


def convolution_at(network: Network, index: int) -> nn.Conv2d:
    """Return a convolution of the backbone, by its position."""
    layer = network.backbone.get_submodule(str(index))
    assert isinstance(layer, nn.Conv2d)
    return layer


def bias_of(layer: nn.Conv2d) -> Tensor:
    """Return a layer's bias; zeros if it has none."""
    return layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias


def _padding(layer: nn.Conv2d) -> int:
    return int(layer.padding[0])
