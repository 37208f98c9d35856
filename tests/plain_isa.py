"""ISA as a loop that follows C.5 one image at a time."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.networks.network import Network


class PlainIsa(NamedTuple):
    """ISA on one image as the released code has it, in plain numbers and with nothing shared."""

    network: Network
    image: Tensor
    target: int
    maps: Callable[[Tensor], list[Tensor]]  # of the classes of the class set
    n_classes: int  # the discrepancy's divisor
    norm: str
    steps: int
    search_steps: int
    kappa: float
    grad_scale: float

    def margin(self, images: Tensor) -> Tensor:
        logits = self.network(images)[0]
        others = [logits[c] for c in range(len(logits)) if c != self.target]
        return torch.stack(others).max() - logits[self.target]

    def discrepancy(self, images: Tensor) -> Tensor:
        total = torch.zeros(())
        for new, clean in zip(self.maps(images), self.maps(self.image.float()), strict=True):
            change = (new - clean.detach()).flatten()
            total = total + (change.abs().sum() if self.norm == "l1" else (change * change).sum())
        return total / self.n_classes

    def run(self, eps: float, gamma: float) -> Tensor:
        images = self.image.clone()
        for _ in range(self.steps):
            point = images.float().requires_grad_()
            loss = torch.clamp(self.margin(point), min=-self.kappa)
            if gamma:
                loss = loss + gamma * self.discrepancy(point)
            # The released code's slope is 1000, and its loss a mean over images.
            n_images = 1000 / self.grad_scale
            gradient = torch.autograd.grad(loss / n_images, point)[0]
            images = images - 0.2 * eps * (1000 * gradient).clamp(-1, 1).double()
            images = torch.maximum(torch.minimum(images, self.image + eps), self.image - eps)
            images = images.clamp(0, 1)
        return images

    def find_eps_min(self) -> float:
        eps, low, high = 0.05, 0.0, 1.0
        for _ in range(self.search_steps):
            if self.margin(self.run(eps, 0).float()) < 0:
                high = eps
                eps = (low + high) / 2
            else:
                low = eps
                eps = min(2 * eps, (low + high) / 2)
        return high

    def find_gamma(self, eps: float) -> float:
        gamma, low, high = 5e-5, 0.0, 1.0
        for _ in range(self.search_steps):
            if self.margin(self.run(eps, gamma).float()) < 0:
                low = gamma
                gamma = min(2 * gamma, (low + high) / 2)
            else:
                high = gamma
                gamma = (low + high) / 2
        return low


def maps_function(
    network: Network, interpreter: str, classes: list[int]
) -> Callable[[Tensor], list[Tensor]]:
    def maps(images: Tensor) -> list[Tensor]:
        features = network.features(images)[0]
        if interpreter == "repr":
            return [features]
        head = network.head.clamp(min=0) if interpreter == "gradcampp" else network.head
        return [(head[c, :, None, None] * features).sum(dim=0) for c in classes]

    return maps
