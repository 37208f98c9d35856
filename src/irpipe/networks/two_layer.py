"""Backbones of two convolutions, each with a nonlinearity behind it, as in Small (C.1)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.networks.input_conv import InputConv2d, input_gradient


def is_two_layer(backbone: nn.Module, nonlinearity: type[nn.Module]) -> bool:
    """Whether the backbone is a convolution, `nonlinearity`, a convolution and `nonlinearity`."""
    types: tuple[type[nn.Module], ...] = (nn.Conv2d, nonlinearity, nn.Conv2d, nonlinearity)
    return (
        isinstance(backbone, nn.Sequential)
        and len(backbone) == len(types)
        and all(isinstance(layer, kind) for layer, kind in zip(backbone, types, strict=True))
    )


class LinearConvolution:
    """A convolution as a linear map and a bias `[channels, 1, 1]`."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        self.weight = layer.weight
        self.bias = layer.bias[:, None, None]
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
