"""The other side of the benchmarks: a network as its layers are listed in protocol C.1, for plain autograd."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.models import Network


class Plain(nn.Module):
    """The layers of a network of irpipe, with weights of its own, by the library's modules alone and nothing folded.

    Weights lie as torch lays them by default.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        trunk = copy.deepcopy(network.trunk)
        first = trunk[0]
        entry = nn.Conv2d(first.in_channels, first.out_channels, first.kernel_size, first.stride, first.padding)
        entry.load_state_dict(first.state_dict())
        self.body = nn.Sequential(entry, *trunk[1:])
        if network.last is not None:
            self.body.append(copy.deepcopy(network.last))
        self.head = nn.Linear(network.head.shape[1], network.head.shape[0], bias=False)
        self.head.load_state_dict({"weight": network.head})
        self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class activation maps `[N, classes, h, w]` and logits `[N, classes]`."""
        features = self.body(images)
        return F.conv2d(features, self.head.weight[:, :, None, None]), self.head(features.mean(dim=(2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[N, classes]`."""
        logits: Tensor = self.head(self.body(images).mean(dim=(2, 3)))
        return logits
