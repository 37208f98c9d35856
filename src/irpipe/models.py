"""The three networks of the paper: Small, Pool and WResnet (protocol C.1).

Each is a trunk that ends in its last nonlinearity, an optional last convolution without one, global average pooling
and a linear head without bias. So everything behind the trunk is affine, and class activation maps are the network:
the logits are the maps' mean. `Network.maps` says this once, and `Folded` uses it.
"""

import copy
import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from irpipe.errors import IrpipeError


class Network(nn.Module):
    """A classifier of images `[N, C, H, W]` in [0, 1] by averaged class activation maps.

    `trunk` maps images to `[N, K, h, w]` through the last nonlinearity; `last` is the convolution behind it, if any;
    `head` is `[classes, channels]`.
    """

    def __init__(self, trunk: nn.Module, last: nn.Conv2d | None, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.last = last
        self.head = nn.Parameter(torch.empty(classes, channels))

    def features(self, images: Tensor) -> Tensor:
        """The maps before pooling, `[N, channels, h, w]`, not rectified in any of the three models (C.1, C.5 I11)."""
        hidden: Tensor = self.trunk(images)
        return hidden if self.last is None else self.last(hidden)

    def map_convolution(self, positive: bool = False) -> tuple[Tensor, Tensor | None, int]:
        """The head, or its positive part, and the last convolution as one convolution: weight, bias, padding.

        With one output a class instead of one a channel it costs a tenth, and gradients flow to both parts.
        """
        head = F.relu(self.head) if positive else self.head
        if self.last is None:
            return head[:, :, None, None], None, 0
        weight = torch.einsum("ck,kihw->cihw", head, self.last.weight)
        bias = None if self.last.bias is None else head @ self.last.bias
        return weight, bias, self.last.kernel_size[0] // 2

    def maps(self, images: Tensor, positive: bool = False) -> Tensor:
        """Class activation maps `[N, classes, h, w]` as the released code has them, without 1/u (C.3 T1).

        `positive`: by the head's positive weights alone, its GradCAM++ (C.3 T13).
        """
        weight, bias, padding = self.map_convolution(positive)
        return F.conv2d(self.trunk(images), weight, bias, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""
        return self.maps(images).mean(dim=(2, 3))

    @property
    def softened(self) -> "Network":
        """A network of the same weights with softplus in place of each ReLU, for integrated gradients (C.3 T7)."""
        twin = copy.deepcopy(self, {id(weight): weight for weight in self.parameters()})
        for module in list(twin.modules()):
            for name, part in list(module.named_children()):
                if isinstance(part, nn.ReLU):
                    setattr(module, name, nn.Softplus())
        return twin


class Folded:
    """A network with fixed weights whose affine part is multiplied out, for loops that only move the image.

    Behind the trunk all is affine, so the logits are one matrix: its entries are the gradient anywhere, its bias the
    value at zero. Equal to the network up to rounding. `shape` is an image's (C, H, W).
    """

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        self.network, self.shape = network, shape
        fixed = {id(weight): weight.detach() for weight in network.trunk.parameters()}
        self.trunk = copy.deepcopy(network.trunk, fixed)  # of the same weights, that no gradient is worked out for
        with torch.no_grad():
            self.convolutions = {positive: network.map_convolution(positive) for positive in (False, True)}
            like = self.trunk(network.head.new_zeros(1, *shape))
        probe = like.new_zeros(len(network.head), *like.shape[1:], requires_grad=True)
        with torch.enable_grad():
            logits = self._tail(probe).mean(dim=(2, 3))
            (gradient,) = torch.autograd.grad(logits.diagonal().sum(), probe)
        self.channels_last = like.is_contiguous(memory_format=torch.channels_last)
        self.matrix, self.bias = self._flat(gradient), logits[0].detach()

    def _tail(self, hidden: Tensor, positive: bool = False) -> Tensor:
        weight, bias, padding = self.convolutions[positive]
        return F.conv2d(hidden, weight, bias, padding=padding)

    def _flat(self, hidden: Tensor) -> Tensor:
        """The trunk's output as `[N, K h w]`, in the order that it has in memory: another would cost a tenth of all."""
        return (hidden.permute(0, 2, 3, 1) if self.channels_last else hidden).flatten(1)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""
        return F.linear(self._flat(self.trunk(images)), self.matrix, self.bias)

    def maps(self, images: Tensor, positive: bool = False) -> Tensor:
        """Class activation maps `[N, classes, h, w]`, as `Network.maps`."""
        return self._tail(self.trunk(images), positive)

    @cached_property
    def softened(self) -> "Folded":
        """As `Network.softened`."""
        return Folded(self.network.softened, self.shape)


class Classifier(Protocol):
    """What objectives and interpreters need of a network, trained or folded."""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""

    def maps(self, images: Tensor, positive: bool = False) -> Tensor:
        """Class activation maps `[N, classes, h, w]`."""


class _Convolve(torch.autograd.Function):
    """A convolution whose gradient for its input is a matrix product, summed where patches overlap.

    For inputs of few channels this is four times as fast on a CPU as what the library does, half of PGD's time.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """Gradients for images, weight and bias, each only where it is needed."""
        (images, weight), (gradient,) = ctx.saved_tensors, gradients
        moved = trained = shifted = None
        if ctx.needs_input_grad[0]:
            patches = weight.flatten(1).t() @ gradient.flatten(2)
            moved = F.fold(patches, images.shape[2:], weight.shape[2:], padding=ctx.padding, stride=ctx.stride)
        if ctx.needs_input_grad[1]:
            trained = conv2d_weight(images, weight.shape, gradient, ctx.stride, ctx.padding)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[2]:
            shifted = gradient.sum(dim=(0, 2, 3))
        return moved, trained, shifted, None, None


class _Entry(nn.Conv2d):
    """The convolution that sees the image."""

    def forward(self, input: Tensor) -> Tensor:
        """Outputs of `_Convolve` for images `[N, C, H, W]`."""
        out: Tensor = _Convolve.apply(input, self.weight, self.bias, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return out


class _Block(nn.Module):
    """Residual block: two 3x3 convolutions, each behind a ReLU, no normalisation (C.1).

    A stride of 2 pads below and right only, as TensorFlow's SAME does; its shortcut is average pooling and zero
    channels on both sides.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, (outputs - inputs) // 2
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1 if stride == 1 else 0)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps `[N, outputs, h / stride, w / stride]` of `[N, inputs, h, w]`."""
        rectified = self.relu(hidden)
        if self.stride > 1:
            hidden = F.pad(F.avg_pool2d(hidden, self.stride), (0, 0, 0, 0, self.extra, self.extra))
            rectified = F.pad(rectified, (0, 1, 0, 1))
        out: Tensor = self.second(self.relu(self.first(rectified)))
        return hidden + out


def small(channels: int, classes: int) -> Network:
    """Small: convolutions of 16, 32 and 100 filters, no ReLU behind the third (C.1)."""
    trunk = nn.Sequential(
        _Entry(channels, 16, 4, 2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 4, 2, padding=1),
        nn.ReLU(inplace=True),
    )
    return _channels_last(Network(trunk, nn.Conv2d(32, 100, 7, padding=3), 100, classes))


def pool(channels: int, classes: int) -> Network:
    """Pool: two 5x5 convolutions of 32 and 64 filters, each max-pooled; the ReLU sits behind the first pool (C.1)."""
    first = [_Entry(channels, 32, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()]
    return Network(nn.Sequential(*first, nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2)), None, 64, classes)


def wresnet(channels: int, classes: int) -> Network:
    """WResnet: a convolution and 15 residual blocks of 16, 32 and 64 filters, no normalisation (C.1, T12)."""
    widths = [16] * 6 + [32] * 5 + [64] * 5
    blocks = [_Block(a, b, 2 if b > a else 1) for a, b in itertools.pairwise(widths)]
    network = Network(nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), *blocks), None, 64, classes)
    return _channels_last(network)


def _channels_last(network: Network) -> Network:
    """In the layout that a CPU is a quarter faster in; not for Pool, where its rounding moves more published cells."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # torch's stub


MODELS = {"small": small, "pool": pool, "wresnet": wresnet}


def build(model: str, shape: Sequence[int], classes: int) -> Network:
    """A network of a named model for images of `shape` (C, H, W), weights not yet set."""
    return MODELS[model](shape[0], classes)


def from_tensors(model: str, shape: Sequence[int], classes: int, tensors: dict[str, Tensor], where: str) -> Network:
    """A network with given weights; raises IrpipeError naming `where` if names or shapes do not fit the model."""
    if model not in MODELS:
        raise IrpipeError(f"{where}: is of model '{model}'; have: {', '.join(MODELS)}")
    network = build(model, shape, classes)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise IrpipeError(f"{where}: {name} is {found.get(name)}; model {model} wants {wanted.get(name)}")
    network.load_state_dict(tensors)
    return network
