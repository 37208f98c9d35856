"""Networks with fixed weights whose affine end is one matrix, for loops that change only images."""

import copy
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.networks.network import Network


class FoldedNetwork:
    """A network with fixed weights whose affine end is multiplied out.

    Every layer after the backbone is affine. So with the backbone's flattened output h,

        f(x) = M h + b

    Row c of `matrix` M, `[classes, K h w]`, is the gradient of logit c, which is the same at
    every h. `bias` b, `[classes]`, is the value of the logits at h = 0.

    The outputs equal those of `network` up to rounding (D.6). `shape` is an image's (C, H, W).
    """

    def __init__(self, network: Network, shape: Sequence[int]) -> None:
        self.network = network
        self.shape = shape
        # This backbone shares the weights, but no gradient is computed for them.
        fixed = {id(weight): weight.detach() for weight in network.backbone.parameters()}
        # It has no dropout and no batch statistics: an image's logits depend on it alone.
        self.backbone = copy.deepcopy(network.backbone, fixed).eval()
        with torch.no_grad():
            # By the value of `positive_head`.
            self.map_convolutions = {
                positive: network.map_convolution(positive) for positive in (False, True)
            }
            hidden = self.backbone(network.head.new_zeros(1, *shape))
        # One row per class, so that one backward pass gives the gradients of all logits.
        zeros = hidden.new_zeros(len(network.head), *hidden.shape[1:], requires_grad=True)
        with torch.enable_grad():
            logits = self.maps_of(zeros).mean(dim=(2, 3))
            (gradient,) = torch.autograd.grad(logits.diagonal().sum(), zeros)
        self.hidden_shape = hidden.shape[1:]
        self.is_channels_last = hidden.is_contiguous(memory_format=torch.channels_last)
        self.matrix = self._flatten(gradient)
        self.bias = logits[0].detach()

    def maps_of(self, hidden: Tensor, positive_head: bool = False) -> Tensor:
        """Return the maps `[N, classes, h, w]` for the backbone's output `hidden`."""
        weight, bias, padding = self.map_convolutions[positive_head]
        return F.conv2d(hidden, weight, bias, padding=padding)

    def _flatten(self, hidden: Tensor) -> Tensor:
        """Return the backbone's output as `[..., K h w]`, its entries in their order in memory.

        Another order would have to copy them, which costs a tenth of an attack's time.
        """
        in_memory_order = hidden.movedim(-3, -1) if self.is_channels_last else hidden
        return in_memory_order.flatten(-3)

    def unflatten(self, flat: Tensor) -> Tensor:
        """Return outputs of the backbone `[..., channels, h, w]` from `[..., K h w]`."""
        channels, height, width = self.hidden_shape
        if self.is_channels_last:
            return flat.view(*flat.shape[:-1], height, width, channels).movedim(-1, -3)
        return flat.view(*flat.shape[:-1], channels, height, width)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`."""
        return self.logits_of(self.backbone(images))

    def logits_of(self, hidden: Tensor) -> Tensor:
        """Return the logits `[..., classes]` for the backbone's output `[..., channels, h, w]`."""
        return F.linear(self._flatten(hidden), self.matrix, self.bias)

    def maps(self, images: Tensor, positive_head: bool = False) -> Tensor:
        """Return the class activation maps `[N, classes, h, w]`, as `Network.maps`."""
        return self.maps_of(self.backbone(images), positive_head)

    @cached_property
    def with_softplus(self) -> "FoldedNetwork":
        """The same network with softplus in place of each ReLU, as `Network.with_softplus`."""
        return FoldedNetwork(self.network.with_softplus, self.shape)
