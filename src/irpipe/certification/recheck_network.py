"""Small in float64, for the check of certificates: what does not depend on the image."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.certification.recheck_pool import bias_of, convolution_at
from irpipe.networks.network import Network


class SmallNetwork:
    """What bounds need of the network and of the shape (C, H, W) of images, but of no image.

    `network` is in float64. The patches of layer 1 that places see have a entries, and q pixels
    of the image. An entry is z1 = K x + `patch_bias1`, x being the pixels, K `[a, q]`.
    """

    def __init__(self, network: Network, shape: tuple[int, int, int]) -> None:
        self.conv1, self.conv2 = (convolution_at(network, index) for index in (0, 2))
        self.weight2 = self.conv2.weight.flatten(1)
        self.positive2, self.negative2 = self.weight2.clamp(min=0), self.weight2.clamp(max=0)
        self.bias1, self.bias2 = bias_of(self.conv1), bias_of(self.conv2)
        self.patches1, self.patches2 = _patches(self.conv1), _patches(self.conv2)
        self.receptive = _receptive_field(self.conv1, self.conv2)
        units = torch.eye(self.weight2.shape[1]).to(self.weight2)
        units = units.view(-1, len(self.bias1), *self.conv2.kernel_size)
        spread = F.conv_transpose2d(units, self.conv1.weight, stride=self.conv1.stride)
        self.K = spread.flatten(1)
        self.patch_bias1 = self.bias1.repeat_interleave(math.prod(self.conv2.kernel_size))
        layer1 = self.conv1(self.bias1.new_zeros(1, *shape))
        self.size0, self.size1 = shape[1:], (layer1.shape[2], layer1.shape[3])
        # An entry of a patch that is padding is always 0.
        self.is_inside = self.hidden_patches(torch.ones_like(layer1))
        # P, a and the number of channels of layer 2.
        self.sizes = len(self.is_inside), len(self.K), len(self.bias2)
        self.head, self.head_bias = _linear_head(network, self.conv2(layer1).shape[1:])

    def hidden_patches(self, hidden: Tensor) -> Tensor:
        """The patches `[P, a]` of layer 1 `[1, c1, h, w]` that places see; padding is 0."""
        return F.unfold(hidden, **self.patches2)[0].t()

    def pixel_patches(self, image: Tensor) -> Tensor:
        """The patches `[P, q]` of an image `[1, C, H, W]` that places see."""
        return F.unfold(image, **self.receptive)[0].t()


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


def _linear_head(network: Network, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The logits as an affine function of relu(z2): `[classes, P, c2]` and `[classes]`.

    `shape` is that of z2, (c2, height, width).
    """
    weight, bias, padding = network.map_convolution()
    hidden = weight.new_zeros(len(weight), *shape).requires_grad_()
    with torch.enable_grad():
        logits = F.conv2d(hidden, weight, bias, padding=padding).mean(dim=(2, 3))
        (gradient,) = torch.autograd.grad(logits.diagonal().sum(), hidden)
    return gradient.flatten(2).transpose(1, 2), logits[0].detach()
