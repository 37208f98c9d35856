"""A classifier that numpy can compute, and a batch for it."""

import numpy as np
import torch
from torch import Tensor

LABELS = np.array([2, 0, 1, 2, 1])


class TanhClassifier:
    """A classifier with three maps of 2x2 pixels: `scale * tanh(image @ matrix)`."""

    def __init__(self, matrix: Tensor, scale: float = 3.0) -> None:
        self.matrix, self.scale = matrix, scale

    def maps(self, images: Tensor) -> Tensor:
        return self.scale * torch.tanh(images.flatten(1) @ self.matrix).view(-1, 3, 2, 2)

    def __call__(self, images: Tensor) -> Tensor:
        return self.maps(images).mean(dim=(2, 3))


def tiny_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Matrix `[4, 12]`, images and perturbed images `[5, 1, 2, 2]`, float64."""
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(5, 1, 2, 2))
    matrix = rng.normal(size=(4, 12))
    perturbed = images + rng.uniform(-0.3, 0.3, size=images.shape)
    return torch.from_numpy(matrix), torch.from_numpy(images), torch.from_numpy(perturbed)
