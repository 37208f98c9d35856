"""Backbones of two convolutions, each with a nonlinearity behind it, as in Small (C.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.networks.input_conv import InputConv2d, input_gradient


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of square patches, without groups and dilation.

    Layers of a subclass are not, since they may compute something else.
    """
    return (
        type(layer) in (nn.Conv2d, InputConv2d)
        and isinstance(layer, nn.Conv2d)
        and len({*layer.kernel_size}) == len({*layer.stride}) == len({*layer.padding}) == 1
        and (*layer.dilation, layer.groups, layer.padding_mode) == (1, 1, 1, "zeros")
    )


def is_two_layer(backbone: nn.Module | None, nonlinearity: type[nn.Module]) -> bool:
    """Whether the backbone is a convolution, `nonlinearity`, a convolution and `nonlinearity`.

    Both convolutions are those of `is_plain`.
    """
    if type(backbone) is not nn.Sequential or len(backbone) != 4:
        return False
    first, first_nonlinearity, second, second_nonlinearity = backbone
    return (
        is_plain(first)
        and is_plain(second)
        and type(first_nonlinearity) is type(second_nonlinearity) is nonlinearity
    )


class LinearConvolution:
    """A convolution as a linear map and a bias `[channels, 1, 1]`."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.Conv2d)
        bias = layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
        self.weight = layer.weight
        self.bias = bias[:, None, None]
        self.stride = layer.stride[0]
        self.padding = int(layer.padding[0])
        self.is_first = isinstance(layer, InputConv2d)

    def linear(self, inputs: Tensor) -> Tensor:
        """Return the convolution of `inputs` `[..., channels, h, w]` without the bias."""
        flat = F.conv2d(inputs.flatten(0, -4), self.weight, None, self.stride, self.padding)
        return flat.view(*inputs.shape[:-3], *flat.shape[1:])

    def transposed(self, outputs: Tensor, size: torch.Size) -> Tensor:
        """Return the transpose of `linear` for `outputs` `[..., channels, h, w]`.

        `size` is the height and the width of the result.
        """
        flat = outputs.flatten(0, -4)
        if self.is_first:
            inputs = input_gradient(flat, self.weight, size, self.stride, self.padding)
        else:
            # The last rows and columns, which the stride leaves out.
            rest = [
                (length + 2 * self.padding - kernel_size) % self.stride
                for length, kernel_size in zip(size, self.weight.shape[2:], strict=True)
            ]
            inputs = F.conv_transpose2d(
                flat, self.weight, None, self.stride, self.padding, output_padding=rest
            )
        return inputs.view(*outputs.shape[:-3], *inputs.shape[1:])


def two_convolutions(backbone: nn.Module) -> tuple[LinearConvolution, LinearConvolution]:
    """The two convolutions of a two-layer backbone."""
    first, _, second, _ = backbone.children()
    return LinearConvolution(first), LinearConvolution(second)
