"""Networks whose logits are the means of class activation maps."""

import copy
from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The parts of `Network` that all others rely on: its logits are the means of its maps.
FIXED_METHODS = ("features", "features_of", "map_convolution", "maps", "forward")


def own_methods(network: "Network") -> list[str]:
    """Those of FIXED_METHODS that a subclass of `Network` replaces."""
    return [
        name for name in FIXED_METHODS if getattr(type(network), name) is not getattr(Network, name)
    ]


class Network(nn.Module):
    """A classifier of images `[N, C, H, W]` in [0, 1] that ends in global average pooling.

    The feature maps are A = last_conv(backbone(x)), `[N, K, h, w]`. With the head W,
    `[classes, K]`, the class activation map of class c and its logit are

        L(x, c) = sum_k W_ck A_k
        f_c(x) = mean of L(x, c) over h and w

    This is the released code's L, without the factor 1/u of paper eq (1) (C.3 T1).

    `backbone` ends with the last nonlinearity. `last_conv` is the convolution after it; None
    means that there is none. `n_features` is K. The weights of the head are not yet set.
    """

    def __init__(
        self, backbone: nn.Module, last_conv: nn.Conv2d | None, n_features: int, n_classes: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.last_conv = last_conv
        self.head = nn.Parameter(torch.empty(n_classes, n_features))

    def move_to(self, device: torch.device) -> Self:
        """Move the weights to a device, on a GPU with channels first; return the network.

        Int on MNIST Small trains there in half the time that channels last take.
        """
        layout = torch.preserve_format if device.type == "cpu" else torch.contiguous_format
        moved: Self = self.to(device, memory_format=layout)  # type: ignore[call-overload]
        return moved

    def features(self, images: Tensor) -> Tensor:
        """Return the feature maps A `[N, K, h, w]`.

        C.1, C.5 I11: the paper's networks have no ReLU after these, so they can be negative.
        """
        return self.features_of(self.backbone(images))

    def features_of(self, hidden: Tensor) -> Tensor:
        """Return the feature maps for the backbone's output `hidden`."""
        return hidden if self.last_conv is None else self.last_conv(hidden)

    def map_convolution(self, positive_head: bool = False) -> tuple[Tensor, Tensor | None, int]:
        """Return `last_conv` and the head as one convolution: its weight, bias and padding.

        It maps the backbone's output to the maps L. One output per class instead of one per
        feature map makes it ten times cheaper. Gradients flow to both parts. `positive_head`
        is explained at `maps`.
        """
        head = F.relu(self.head) if positive_head else self.head
        if self.last_conv is None:
            return head[:, :, None, None], None, 0
        weight = torch.einsum("ck,kihw->cihw", head, self.last_conv.weight)
        bias = None if self.last_conv.bias is None else head @ self.last_conv.bias
        return weight, bias, self.last_conv.kernel_size[0] // 2

    def maps(self, images: Tensor, positive_head: bool = False) -> Tensor:
        """Return the class activation maps L(x, c) of all classes, `[N, classes, h, w]`.

        C.3 T13: with `positive_head`, relu(W) replaces W. The released code calls these maps
        GradCAM++.
        """
        weight, bias, padding = self.map_convolution(positive_head)
        return F.conv2d(self.backbone(images), weight, bias, padding=padding)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits f(x), `[N, classes]`."""
        return self.maps(images).mean(dim=(2, 3))

    @property
    def with_softplus(self) -> "Network":
        """A network that shares all weights but has softplus in place of each ReLU.

        C.3 T7: the released code takes integrated gradients of this network.
        """
        shared = {id(weight): weight for weight in self.parameters()}
        twin = copy.deepcopy(self, shared)
        for module in list(twin.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.Softplus())
        return twin


class Classifier(Protocol):
    """What training objectives and interpreters call of a network, folded or not."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`."""

    def maps(self, images: Tensor, positive_head: bool = False) -> Tensor:
        """Return the class activation maps `[N, classes, h, w]`, as `Network.maps`."""
