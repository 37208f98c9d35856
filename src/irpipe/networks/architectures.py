"""The architectures of the paper: Small, Pool and WResnet (C.1).

Each consists of a backbone that ends with the last nonlinearity, in Small one more convolution,
global average pooling, and a linear head without bias. All layers after the backbone are affine;
`Network.maps` and `FoldedNetwork` depend on that.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.errors import IrpipeError, first_line
from irpipe.networks.input_conv import InputConv2d
from irpipe.networks.max_pool import MaxPool2d
from irpipe.networks.network import Network, own_methods
from irpipe.outside_code import import_kind, is_outside


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, without batch normalisation (C.1).

    C.1: with stride 2, the convolution pads below and on the right only, as TensorFlow's SAME
    does, and the shortcut is average pooling, with zero channels added on both sides.
    """

    def __init__(self, n_inputs: int, n_outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.channels_per_side = (n_outputs - n_inputs) // 2
        self.first = nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1 if stride == 1 else 0)
        self.second = nn.Conv2d(n_outputs, n_outputs, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[N, n_inputs, h, w]` to `[N, n_outputs, h / stride, w / stride]`."""
        rectified = self.relu(hidden)
        shortcut = hidden
        if self.stride > 1:
            rectified = F.pad(rectified, (0, 1, 0, 1))
            n_zeros = self.channels_per_side
            shortcut = F.pad(F.avg_pool2d(hidden, self.stride), (0, 0, 0, 0, n_zeros, n_zeros))
        residual: Tensor = self.second(self.relu(self.first(rectified)))
        return shortcut + residual


def small(n_channels: int, n_classes: int) -> Network:
    """Build Small: convolutions of 16, 32 and 100 filters, no ReLU after the third (C.1)."""
    backbone = nn.Sequential(
        InputConv2d(n_channels, 16, 4, 2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 4, 2, padding=1),
        nn.ReLU(inplace=True),
    )
    last_conv = nn.Conv2d(32, 100, 7, padding=3)
    return _in_channels_last(Network(backbone, last_conv, 100, n_classes))


def pool(n_channels: int, n_classes: int) -> Network:
    """Build Pool: two 5x5 convolutions of 32 and 64 filters, each with max-pooling (C.1).

    C.1: the only ReLU comes after the first pooling.
    """
    backbone = nn.Sequential(
        InputConv2d(n_channels, 32, 5, padding=2),
        MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        MaxPool2d(2),
    )
    return Network(backbone, None, 64, n_classes)


def wresnet(n_channels: int, n_classes: int) -> Network:
    """Build WResnet: a convolution and 15 residual blocks of 16, 32 and 64 filters (C.1).

    C.3 T12: it is neither wide nor batch-normalised; the name is the paper's.
    """
    widths = [16] * 6 + [32] * 5 + [64] * 5
    blocks = [
        _ResidualBlock(n_inputs, n_outputs, 2 if n_outputs > n_inputs else 1)
        for n_inputs, n_outputs in itertools.pairwise(widths)
    ]
    backbone = nn.Sequential(nn.Conv2d(n_channels, 16, 3, padding=1), *blocks)
    return _in_channels_last(Network(backbone, None, 64, n_classes))


def _in_channels_last(network: Network) -> Network:
    """Give the weights the memory layout in which a CPU needs a quarter less time.

    Pool does not use it, because its rounding there moves more of the published cells.
    """
    converted: Network = network.to(  # type: ignore[call-overload]
        memory_format=torch.channels_last
    )
    return converted


ARCHITECTURES = {"small": small, "pool": pool, "wresnet": wresnet}


def build(model: str, shape: Sequence[int], n_classes: int) -> Network:
    """Return a network of the architecture `model` for images of `shape` (C, H, W).

    Its weights are not yet set. `model` may be a file `./...` beside the config, with a function
    `build(shape, classes) -> Network`. Raises IrpipeError if there is none, or if it fails.
    """
    if not is_outside(model):
        return ARCHITECTURES[model](shape[0], n_classes)
    function = import_kind("models", model).build
    try:
        network = function(tuple(shape), n_classes)
    except Exception as error:  # It is the file's own code.
        raise IrpipeError(f"{model}: build fails ({first_line(error)})") from error
    if not isinstance(network, Network):
        found = type(network).__name__
        raise IrpipeError(f"{model}: build gave a {found}; expected an irpipe Network")
    if own := own_methods(network):
        raise IrpipeError(
            f"{model}: build gave a Network with its own {own[0]}, which attacks would not follow; "
            "put what it does into the backbone"
        )
    if len(network.head) != n_classes:
        raise IrpipeError(
            f"{model}: build gave a head of {len(network.head)} classes; expected {n_classes}"
        )
    _check_weights(network, model)
    _check_last_conv(network.last_conv, model)
    _check_features(network, shape, model)
    return network


def _check_weights(network: Network, model: str) -> None:
    """Raise IrpipeError unless each weight is float32 and is to be trained."""
    for name, weight in network.named_parameters():
        if isinstance(weight, nn.UninitializedParameter):
            raise IrpipeError(f"{model}: build gave {name} without a shape; say how many inputs")
        if weight.dtype != torch.float32:
            raise IrpipeError(f"{model}: build gave {name} of {weight.dtype}, expected float32")
        if not weight.requires_grad:
            raise IrpipeError(f"{model}: build gave {name} that is not trained; make it a buffer")


def _check_last_conv(conv: nn.Conv2d | None, model: str) -> None:
    """Raise IrpipeError if `Network.maps` would not compute what the last convolution does."""
    if conv is None:
        return
    if type(conv) not in (nn.Conv2d, InputConv2d):
        raise IrpipeError(f"{model}: last_conv is a {type(conv).__name__}, expected a Conv2d")
    side = conv.kernel_size[0]
    plain = nn.Conv2d(conv.in_channels, conv.out_channels, side, padding=side // 2, device="meta")
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    for name in names:
        found, expected = getattr(conv, name), getattr(plain, name)
        if found != expected:
            raise IrpipeError(f"{model}: last_conv has {name} {found}, expected {expected}")
    if side % 2 == 0:
        raise IrpipeError(f"{model}: last_conv has kernel_size {side}, expected an odd one")


def _check_features(network: Network, shape: Sequence[int], model: str) -> None:
    """Raise IrpipeError unless the network gives as many feature maps as its head has columns."""
    n_features = network.head.shape[1]
    try:
        with torch.no_grad():
            found = network.eval().features(torch.zeros(2, *shape)).shape
    except (Exception, SystemExit) as error:  # It is the file's own code.
        reason = first_line(error)
        raise IrpipeError(f"{model}: cannot take images {[2, *shape]} ({reason})") from error
    finally:
        network.train()
    if len(found) != 4 or found[:2] != (2, n_features):
        expected = f"[2, {n_features}, h, w]"
        raise IrpipeError(
            f"{model}: gives feature maps {list(found)} for two images; expected {expected}"
        )


def build_with_weights(
    model: str, shape: Sequence[int], n_classes: int, weights: dict[str, Tensor], location: str
) -> Network:
    """Return a network of the architecture `model` with these `weights`, by their names.

    Raises IrpipeError, naming `location`, if there is no such model or if a name or a shape
    does not fit it.
    """
    if not is_outside(model) and model not in ARCHITECTURES:
        raise IrpipeError(f"{location}: is of model '{model}'; have: {', '.join(ARCHITECTURES)}")
    network = build(model, shape, n_classes)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise IrpipeError(
                f"{location}: {name} is {shapes.get(name)}; "
                f"model {model} wants {expected.get(name)}"
            )
    network.load_state_dict(weights)
    return network
