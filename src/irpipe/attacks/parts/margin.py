"""The margin by which a class is missed: what the attacks of the paper and stronger ones raise, lower or hold."""

import math

import torch
from torch import Tensor

from irpipe.models import Classifier


def lead(logits: Tensor, classes: Tensor, kappa: float = math.inf) -> Tensor:
    """Lead of the best other class over the one in `classes` `[N]`, `[N]`, not below -kappa (paper eq (6), (7))."""
    wanted = classes[:, None]
    others = logits.scatter(1, wanted, -math.inf).amax(dim=1)
    return (others - logits.gather(1, wanted)[:, 0]).clamp(min=-kappa)


def margins(network: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """By how much the best other class leads over the true one, `[N]`: positive where the image is taken wrongly."""
    with torch.no_grad():
        return lead(network(images.float()), labels)
