"""Integrated gradients of a network of two smooth layers, with all derivatives written out.

Let W, b be the first convolution, V, d the second, M the affine end, s softplus and * the product
entry by entry. A logit of the network of C.3 T7 and its gradient are

    y = W x + b,  z = V s(y) + d,  f_c = M_c . s(z)
    grad f_c = W^T (s'(y) * B_c),  B_c = V^T (s'(z) * M_c)

On the path, y = alpha W x + b. So W is applied once an image, not once a point of the path, and
its transpose once to the weighted sum over the points.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.two_layer import is_two_layer, two_convolutions

# Of all classes together. The hidden layers of more maps do not fit into a CPU's cache.
MAPS_PER_CHUNK = 128

# Pairs of alpha and weight.
PathPoints = tuple[tuple[float, float], ...]


def is_smooth_two_layer(backbone: nn.Module) -> bool:
    """Whether the backbone is a convolution, softplus, a convolution and softplus."""
    return is_two_layer(backbone, nn.Softplus) and all(
        layer.beta == 1 and layer.threshold == 20  # those of F.softplus
        for layer in backbone.children()
        if isinstance(layer, nn.Softplus)
    )


def two_layer_ig(
    network: FoldedNetwork, images: Tensor, classes: Tensor | None, points: PathPoints
) -> Tensor:
    """Integrated gradients `[N, K, C, H, W]` for `classes` `[N, K]`; None means all classes.

    Once differentiable with respect to the images `[N, C, H, W]`.
    """
    if classes is None:
        classes = torch.arange(len(network.bias), device=images.device).expand(len(images), -1)
    chunk_size = max(1, MAPS_PER_CHUNK // classes.shape[1])
    maps = [
        _TwoLayerIg.apply(*chunk, network, points)  # type: ignore[no-untyped-call]
        for chunk in zip(
            torch.split(images, chunk_size), torch.split(classes, chunk_size), strict=True
        )
    ]
    return torch.cat(maps)


class _TwoLayerIg(torch.autograd.Function):
    """`two_layer_ig` of one chunk, and its gradient.

    With w_i the weights and y_i the values of y at the points of the path, the map of class c is

        x * average_c,  average_c = W^T sum_i w_i s'(y_i) * B_c

    Let v_c be the gradient for that map. With u_c = W (v_c * x), the gradient for the images is

        sum_c v_c * average_c + W^T sum_i w_i alpha_i dphi/dy
        phi = sum_c u_c . (s'(y) * B_c) = sum_c M_c . (s'(z) * t_c),  t_c = V (s'(y) * u_c)
        dphi/dy = s''(y) * sum_c (u_c * B_c) + s'(y) * V^T (s''(z) * sum_c M_c * t_c)

    t_c is the derivative of z in the direction u_c (forward mode). The only reverse pass is for
    phi, so for all classes at once. s'' = s' * (1 - s').
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, classes: Tensor, network: FoldedNetwork, points: PathPoints
    ) -> Tensor:
        """Return the maps `[N, K, C, H, W]`."""
        first, second = two_convolutions(network.backbone)
        matrix = network.unflatten(network.matrix[classes])  # M_c, [N, K, ...]
        w_x = first.linear(images)  # W x
        total = w_x.new_zeros(())
        stored = []
        for alpha, weight in points:
            y = alpha * w_x + first.bias
            z = second.linear(F.softplus(y)) + second.bias
            slope_y, slope_z = y.sigmoid(), z.sigmoid()  # s'(y), s'(z)
            back = second.transposed(slope_z[:, None] * matrix, y.shape[2:])  # B_c
            total = torch.addcmul(total, slope_y[:, None], back, value=weight)
            stored += [slope_y, slope_z, back]
        average = first.transposed(total, images.shape[2:])
        ctx.save_for_backward(images, classes, average, *stored)
        ctx.network, ctx.points = network, points
        return images[:, None] * average

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient for the images."""
        images, classes, average, *stored = ctx.saved_tensors
        first, second = two_convolutions(ctx.network.backbone)
        matrix = ctx.network.unflatten(ctx.network.matrix[classes])
        direction = first.linear(gradient * images[:, None])  # u_c
        total = torch.zeros_like(direction[:, 0])
        for (alpha, weight), slope_y, slope_z, back in zip(
            ctx.points, *(stored[part::3] for part in range(3)), strict=True
        ):
            change_z = second.linear(slope_y[:, None] * direction)  # t_c
            gradient_z = slope_z * (1 - slope_z) * (matrix * change_z).sum(dim=1)
            gradient_y = slope_y * (1 - slope_y) * (direction * back).sum(dim=1)
            gradient_y += slope_y * second.transposed(gradient_z, slope_y.shape[2:])
            total.add_(gradient_y, alpha=weight * alpha)
        through_path = first.transposed(total, images.shape[2:])
        return (gradient * average).sum(dim=1) + through_path, None, None, None
