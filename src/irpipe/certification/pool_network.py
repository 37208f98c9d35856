"""The network Pool as products of patches with matrices, the form in which bounds are computed."""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.certification.patch_network import Patches
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.max_pool import MaxPool2d
from irpipe.networks.network import Network
from irpipe.networks.two_layer import is_plain

# Max-pooling takes the largest of 2 x 2 neighbours.
SIDE = 2


class PoolNetwork:
    """A network of the architecture Pool (C.1), whose logits are

        f(x) = sum over places p of M_p h2_p + b,   h2_p = b2 + max over i of W2_i h1_p
        h1_u = max(0, b1 + max over i of W1_i x_u),   i = 1 ... 4

    A place u of pooled layer 1 sees a patch x_u of the image. A place p of pooled layer 2 sees a
    patch h1_p of layer 1 and, through it, a patch x_p of the image. W1_i and W2_i are the
    convolution's weights, moved to the neighbour i of those that max-pooling compares.

    Shapes, for U and P places, images of C channels, layers of c1 and c2 channels, patches of q1
    pixels, of a entries of layer 1 and of q pixels:

    - `weight1`: W1, `[c1, 4, q1]`; `bias1`: b1, `[c1]`;
    - `weight2`: W2, `[c2, 4, a]`; `bias2`: b2, `[c2]`;
    - `head`: M, `[classes, P, c2]`; `head_bias`: b, `[classes]`.

    `shape` is an image's (C, H, W). The network's backbone must be that of `is_pool`.
    """

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        conv1, conv2 = network.backbone.get_submodule("0"), network.backbone.get_submodule("3")
        assert isinstance(conv1, nn.Conv2d)
        assert isinstance(conv2, nn.Conv2d)
        self.network = network
        self.shape = (shape[0], shape[1], shape[2])
        self.conv1, self.conv2 = conv1, conv2
        self.weight1, self.bias1 = _moved_weights(conv1), _bias(conv1)
        self.weight2, self.bias2 = _moved_weights(conv2), _bias(conv2)
        # Patches of the image and of layer 1, and those of the image that layer 2 sees.
        self.pixels = _patches(conv1)
        self.hidden = _patches(conv2)
        self.receptive = Patches(
            size=self.pixels.size + SIDE * (self.hidden.size - 1),
            stride=SIDE * SIDE,
            padding=self.pixels.padding + SIDE * self.hidden.padding,
        )
        self.receptive_shape = (self.shape[0], self.receptive.size, self.receptive.size)
        hidden = self._layer1(self.weight1.new_zeros(1, *self.shape))
        self.hidden_size = (hidden.shape[2], hidden.shape[3])
        folded = FoldedNetwork(network, self.shape)
        n_classes, n_channels = len(folded.matrix), len(self.bias2)
        head = folded.unflatten(folded.matrix).reshape(n_classes, n_channels, -1)
        self.head, self.head_bias = head.transpose(1, 2).contiguous(), folded.bias
        self.n_places = self.head.shape[1]

    def hidden_at(self, images: Tensor) -> Tensor:
        """Return h1 `[B, c1, U]` of `images` `[B, C, H, W]`."""
        return self._layer1(images).flatten(2)

    def _layer1(self, images: Tensor) -> Tensor:
        return F.max_pool2d(self.conv1(images), SIDE).relu()

    def margins(
        self, images: Tensor, coefficients: Tensor, constant: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the margins `[R]` of `images` `[R, C, H, W]`, and their gradients.

        These are sum over p of m_p h2_p + c, for `coefficients` m `[R, P, c2]` and `constant` c.
        """
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            hidden2 = F.max_pool2d(self.conv2(self._layer1(images)), SIDE)
            products = hidden2.flatten(2).transpose(1, 2) * coefficients
            margins = products.sum(dim=(1, 2)) + constant
            (gradient,) = torch.autograd.grad(margins.sum(), images)
        return margins.detach(), gradient

    def add_hidden(self, patches: Tensor) -> Tensor:
        """Add up patches of layer 1, `[B, P, a]`, to `[B, c1, U]`."""
        return self.hidden.add(patches, self.hidden_size).flatten(2)

    def cut_hidden(self, hidden: Tensor) -> Tensor:
        """Return the patches `[B, P, a]` of layer 1, `[B, c1, U]`."""
        return self.hidden.cut(hidden.view(*hidden.shape[:2], *self.hidden_size))

    def cut_units(self, values: Tensor) -> Tensor:
        """Return `values` `[c1, U, n]` at the units of each place, `[units, P, n, c1]`.

        Values `[c1, U]` have an n of 1.
        """
        values = values if values.dim() == 3 else values[..., None]
        n_channels, _, n_values = values.shape
        images = values.permute(2, 0, 1).reshape(1, -1, *self.hidden_size)
        patches = self.hidden.cut(images).view(self.n_places, n_values, n_channels, -1)
        return patches.permute(3, 0, 1, 2).contiguous()

    def seen_by_unit(self, pixels: Tensor, unit: int) -> Tensor:
        """Return the part that a unit of h1_p sees of values at the pixels of x_p.

        `pixels` are `[P, *receptive_shape, n]`; the part is a view of them.
        """
        row, column = (SIDE * step for step in divmod(unit, self.hidden.size))
        size = self.pixels.size
        return pixels[:, :, row : row + size, column : column + size]


def is_pool(backbone: nn.Module | None) -> TypeGuard[nn.Sequential]:
    """Whether a backbone is convolution, pooling, ReLU, convolution, pooling.

    The convolutions have square patches and move by one pixel; max-pooling takes 2 x 2 places.
    """
    if type(backbone) is not nn.Sequential or len(backbone) != 5:
        return False
    convolutions, poolings = (backbone[0], backbone[3]), (backbone[1], backbone[4])
    return (
        type(backbone[2]) is nn.ReLU
        and all(is_plain(layer) and layer.stride == (1, 1) for layer in convolutions)
        and all(_is_max_of_4(layer) for layer in poolings)
    )


def _is_max_of_4(layer: nn.Module) -> bool:
    """Whether a layer is max-pooling of 2 x 2 places, without overlap and padding."""
    if type(layer) not in (nn.MaxPool2d, MaxPool2d) or layer.ceil_mode:
        return False
    options = {"kernel_size": SIDE, "stride": SIDE, "padding": 0, "dilation": 1}
    return all(getattr(layer, name) in (value, (value, value)) for name, value in options.items())


def _moved_weights(conv: nn.Conv2d) -> Tensor:
    """The weights `[channels, 4, patch]` of a convolution at the four neighbours."""
    size = conv.kernel_size[0]
    weight = conv.weight.detach()
    moved = weight.new_zeros(len(weight), SIDE * SIDE, weight.shape[1], size + 1, size + 1)
    for i in range(SIDE * SIDE):
        down, right = divmod(i, SIDE)
        moved[:, i, :, down : down + size, right : right + size] = weight
    return moved.flatten(2)


def _patches(conv: nn.Conv2d) -> Patches:
    """The patches that four neighbours see together."""
    return Patches(conv.kernel_size[0] + 1, SIDE, int(conv.padding[0]))


def _bias(conv: nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
