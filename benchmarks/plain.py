"""A network by torch's layers alone, as other programs would get it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.networks.network import Network


class PlainNetwork(nn.Module):
    """A copy of an irpipe network by the layers of C.1, with nothing folded.

    Its weights have torch's default layout in memory.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        backbone: Any = copy.deepcopy(network.backbone)
        irpipe_conv = backbone[0]
        first_conv = nn.Conv2d(
            irpipe_conv.in_channels,
            irpipe_conv.out_channels,
            irpipe_conv.kernel_size,
            irpipe_conv.stride,
            irpipe_conv.padding,
        )
        first_conv.load_state_dict(irpipe_conv.state_dict())
        self.body = nn.Sequential(first_conv, *backbone[1:])
        if network.last_conv is not None:
            self.body.append(copy.deepcopy(network.last_conv))
        n_classes, n_features = network.head.shape
        self.head = nn.Linear(n_features, n_classes, bias=False)
        self.head.load_state_dict({"weight": network.head})
        contiguous = torch.contiguous_format
        self.to(network.head.device, memory_format=contiguous)  # type: ignore[call-overload]

    def maps_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class activation maps `[N, classes, h, w]` and logits `[N, classes]`."""
        features = self.body(images)
        maps = F.conv2d(features, self.head.weight[:, :, None, None])
        return maps, self.head(features.mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`."""
        logits: Tensor = self.head(self.body(images).mean(dim=(2, 3)))
        return logits
