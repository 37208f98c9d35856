"""Whether a network is one that certificates are about, for their check."""

from torch import nn

from irpipe.networks.input_conv import InputConv2d
from irpipe.networks.max_pool import MaxPool2d
from irpipe.networks.network import Network, own_methods

# By their type, since other subclasses may compute something else.
KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "convolution",
    InputConv2d: "convolution",
    nn.MaxPool2d: "max-pooling",
    MaxPool2d: "max-pooling",
    nn.ReLU: "ReLU",
}
ARCHITECTURES = {
    ("convolution", "ReLU", "convolution", "ReLU"): "Small",
    ("convolution", "max-pooling", "ReLU", "convolution", "max-pooling"): "Pool",
}


def architecture_of(network: Network) -> str:
    """Return "Small" or "Pool", or "" for a network that the check has no bounds of."""
    backbone = network.backbone
    if own_methods(network) or type(backbone) is not nn.Sequential:
        return ""
    name = ARCHITECTURES.get(tuple(KINDS.get(type(layer), "") for layer in backbone), "")
    return name if all(_has_bounds(layer, name) for layer in backbone) else ""


def _has_bounds(layer: nn.Module, architecture: str) -> bool:
    """Whether the bounds of an architecture are those of a layer with these options."""
    if isinstance(layer, nn.MaxPool2d):
        options = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        pairs = [(value, value) if isinstance(value, int) else value for value in options]
        return pairs == [(2, 2), (2, 2), (0, 0), (1, 1)] and not layer.ceil_mode
    if not isinstance(layer, nn.Conv2d):
        return True
    is_square = all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    is_dense = (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), 1, "zeros")
    return is_square and is_dense and (architecture == "Small" or layer.stride == (1, 1))
