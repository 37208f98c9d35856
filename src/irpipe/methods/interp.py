"""Interpretability-aware robust training: Int, Int-Adv and Int-1-class (paper eq (8) and (9), protocol C.2, C.3)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.models import Classifier
from irpipe.quantities import NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    weight: NotNegative = 0.01,  # of the discrepancy, C.3 T4
    classes: Literal["one", "two"] = "two",  # the true class alone, or the others too, C.2
    adversarial: bool = False,  # cross-entropy on the perturbed images: Int-Adv, C.2
) -> Objective:
    """Cross-entropy plus `weight` times the mean l1 change of the class activation maps.

    The change of the other classes' maps counts by their softmax at the perturbed image, renormalised without the
    true class (C.3 T3); gradients flow through it on both sides (C.2).
    """
    clean = network.maps(images)
    true = F.one_hot(labels, clean.shape[1]).bool()

    def discrepancy(maps: Tensor) -> Tensor:
        change = (maps - clean).abs().sum(dim=(2, 3))
        own = change[true]
        if classes == "one":
            return own.mean()
        # a softmax over the others' logits: dividing probabilities that underflow would give 0/0
        others = torch.softmax(maps.mean(dim=(2, 3)).masked_fill(true, -torch.inf), dim=1)
        return (own + (others * change).sum(dim=1)).mean()

    def loss(perturbed: Tensor) -> Tensor:
        maps = network.maps(perturbed)
        fitted = maps if adversarial else clean
        return F.cross_entropy(fitted.mean(dim=(2, 3)), labels) + weight * discrepancy(maps)

    return Objective(loss)
