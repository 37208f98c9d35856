"""The network Small as bounds need it: convolutions, and products of patches with matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.errors import IrpipeError
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.input_conv import input_gradient
from irpipe.networks.network import Network
from irpipe.networks.two_layer import is_two_layer


@dataclass(frozen=True)
class Patches:
    """Where the square patches of an image lie. There is one patch per place of a later layer."""

    size: int
    stride: int
    padding: int

    def cut(self, images: Tensor) -> Tensor:
        """Return the patches `[B, places, C size size]` of `images` `[B, C, H, W]`."""
        columns = F.unfold(images, self.size, padding=self.padding, stride=self.stride)
        return columns.transpose(1, 2).contiguous()

    def add(self, patches: Tensor, height_width: tuple[int, int]) -> Tensor:
        """Add up patches `[B, places, C size size]` to images; this is the adjoint of `cut`."""
        columns = patches.transpose(1, 2)
        return F.fold(columns, height_width, self.size, padding=self.padding, stride=self.stride)


class MarginNetwork(Protocol):
    """A network in patch form, as attacks on margins use it."""

    head: Tensor
    head_bias: Tensor

    def margins(
        self, images: Tensor, coefficients: Tensor, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return margins of images, and their gradients."""


class PatchNetwork:
    """A network of the architecture Small (C.1), whose logits are

        f(x) = sum over places p of M_p h2_p + b,   h2_p = relu(z2_p)
        z2_p = W2 h1_p + b2,                        h1 = relu(z1),  z1 = W1 * x + b1

    Each place p of layer 2 sees a patch h1_p of layer 1 and, through it, a patch x_p of the
    image, whose entries outside the image are 0:

        z1_p = K x_p + b1_p

    Shapes, for P places, images of C channels, layers of c1 and c2 channels, patches of
    a = c1 k k entries of layer 1 and of q pixels:

    - `conv1`: W1, `[c1, C, k, k]`; `bias1`: b1, `[c1]`;
    - `conv2`: W2, `[c2, c1, k, k]`, and as a matrix `weight2`, `[c2, a]`; `bias2`: b2, `[c2]`;
    - `composed`: K, `[a, q]`; `patch_bias1`: b1_p, `[a]`, the same at all places;
    - `is_inside`: whether an entry of h1_p lies in the layer and not in its padding, `[P, a]`;
    - `head`: M, `[classes, P, c2]`; `head_bias`: b, `[classes]`.

    `shape` is an image's (C, H, W). Raises IrpipeError if the network is no Small.
    """

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        backbone = getattr(network, "backbone", None)
        if not is_small(backbone):
            raise IrpipeError(
                "certify: this network is not Small (convolution, ReLU, convolution, ReLU, "
                "affine layers); only Small and, for margins, Pool (convolution, max-pooling, "
                "ReLU, convolution, max-pooling, affine layers) have proofs"
            )
        conv1, conv2 = _convolution(backbone[0]), _convolution(backbone[2])
        self.network = network
        self.shape = (shape[0], shape[1], shape[2])
        self.conv1 = conv1.weight.detach().contiguous()
        self.bias1 = _bias(conv1)
        self.bias2 = _bias(conv2)
        self.conv2 = conv2.weight.detach().contiguous()
        self.weight2 = self.conv2.flatten(1)
        self.pixels = _patches(conv1)
        self.hidden = _patches(conv2)
        # Patches of the image that places of layer 2 see.
        self.receptive = Patches(
            size=self.pixels.size + self.pixels.stride * (self.hidden.size - 1),
            stride=self.pixels.stride * self.hidden.stride,
            padding=self.pixels.padding + self.pixels.stride * self.hidden.padding,
        )
        hidden = self.layer1(self.conv1.new_zeros(1, *self.shape))
        self.hidden_size = (hidden.shape[2], hidden.shape[3])
        self.is_inside = self.hidden.cut(torch.ones_like(hidden))[0] > 0
        hidden2 = F.conv2d(hidden, self.conv2, None, self.hidden.stride, self.hidden.padding)
        self.n_places = len(self.is_inside)
        self.grid = (hidden2.shape[2], hidden2.shape[3])
        # The last rows and columns of layer 1, which the stride leaves out.
        self.left_out = [
            (length + 2 * self.hidden.padding - self.hidden.size) % self.hidden.stride
            for length in self.hidden_size
        ]
        n_entries = self.weight2.shape[1]
        units = torch.eye(n_entries, device=self.conv1.device, dtype=self.conv1.dtype)
        units = units.view(n_entries, len(self.bias1), self.hidden.size, self.hidden.size)
        composed = F.conv_transpose2d(units, self.conv1, stride=self.pixels.stride)
        self.composed = composed.flatten(1).contiguous()
        self.patch_bias1 = self.bias1.repeat_interleave(self.hidden.size**2)
        self.head, self.head_bias = self._head()

    def _head(self) -> tuple[Tensor, Tensor]:
        folded = FoldedNetwork(self.network, self.shape)
        n_classes = len(folded.matrix)
        if folded.is_channels_last:
            head = folded.matrix.view(n_classes, self.n_places, -1)
        else:
            head = folded.matrix.view(n_classes, -1, self.n_places).transpose(1, 2)
        return head.contiguous(), folded.bias

    def layer1(self, images: Tensor) -> Tensor:
        """Return z1 `[B, c1, h, w]` of `images` `[B, C, H, W]`."""
        return F.conv2d(images, self.conv1, self.bias1, self.pixels.stride, self.pixels.padding)

    def layer2(self, hidden: Tensor) -> Tensor:
        """Return z2 `[B, P, c2]` of h1 `[B, c1, h, w]`."""
        return self.convolve2(hidden, self.conv2) + self.bias2

    def convolve2(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Return what layer 2 with another `weight` makes of `hidden`, without bias."""
        outputs = F.conv2d(hidden, weight, None, self.hidden.stride, self.hidden.padding)
        return outputs.flatten(2).transpose(1, 2).contiguous()

    def layer1_adjoint(self, coefficients: Tensor) -> Tensor:
        """Return W1' A `[B, C, H, W]` for `coefficients` A of z1 `[B, c1, h, w]`."""
        pixels = self.pixels
        return input_gradient(
            coefficients, self.conv1, self.shape[1:], pixels.stride, pixels.padding
        )

    def layer2_adjoint(self, coefficients: Tensor) -> Tensor:
        """Return W2' A `[B, c1, h, w]` for `coefficients` A of z2 `[B, P, c2]`."""
        shape = len(coefficients), *self.grid, len(self.bias2)
        outputs = coefficients.view(shape).permute(0, 3, 1, 2)
        stride, padding = self.hidden.stride, self.hidden.padding
        inputs = F.conv_transpose2d(outputs, self.conv2, None, stride, padding, self.left_out)
        return inputs.contiguous()

    def add_pixels(self, patches: Tensor) -> Tensor:
        """Add up patches of the image that places see, `[B, P, q]`, to `[B, C, H, W]`."""
        return self.receptive.add(patches, self.shape[1:])

    def margins(
        self, images: Tensor, coefficients: Tensor, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the margins `[R]` of `images` `[R, C, H, W]`, and their gradients.

        These are sum over p of m_p relu(z2_p) + c, for `coefficients` m `[R, P, c2]` and
        `constant` c.
        """
        z1 = self.layer1(images)
        z2 = self.layer2(z1.relu())
        margins = (z2.relu() * coefficients).sum(dim=(1, 2)) + constant
        gradient1 = self.layer2_adjoint(coefficients * (z2 > 0)) * (z1 > 0)
        return margins, self.layer1_adjoint(gradient1)

    def logits(self, images: Tensor) -> Tensor:
        """Return f(x) `[B, classes]`, equal to the network's up to rounding."""
        hidden2 = self.layer2(self.layer1(images).relu()).relu()
        return hidden2.flatten(1) @ self.head.flatten(1).t() + self.head_bias


def is_small(backbone: nn.Module | None) -> TypeGuard[nn.Sequential]:
    """Whether a backbone is convolution, ReLU, convolution, ReLU, with square patches."""
    return is_two_layer(backbone, nn.ReLU)


def _convolution(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Conv2d)
    return layer


def _patches(layer: nn.Conv2d) -> Patches:
    return Patches(layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))


def _bias(layer: nn.Conv2d) -> Tensor:
    if layer.bias is None:
        return layer.weight.new_zeros(layer.out_channels)
    return layer.bias.detach()
