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
    weight: NotNegative = 0.01,  # of the discrepancy, T4; the paper's gamma is 2u times it
    classes: Literal["one", "two"] = "two",  # the true class alone, or the others too, C.2
    adversarial: bool = False,  # cross-entropy of the perturbed images: Int-Adv, C.2
    halved: bool = False,  # the factors 1/2 of eq (8), T2
    softmax: Literal["others", "all"] = "others",  # over the classes that weigh the other maps, T3
    inner: Literal["joint", "loss", "discrepancy"] = "joint",  # what the perturbation maximises, T5
) -> Objective:
    """Cross-entropy plus `weight` times the mean l1 change of the class activation maps.

    The change of the other classes' maps counts by their softmax at the perturbed image; gradients flow through it
    on both sides (C.2).
    """
    clean = network.maps(images)
    true = labels[:, None] == torch.arange(clean.shape[1], device=labels.device)
    factor = 0.5 if halved else 1.0

    def discrepancy(maps: Tensor) -> Tensor:
        """Of the maps `[N, classes, h, w]` from the clean ones, the mean over the images."""
        change = (maps - clean).abs().sum(dim=(2, 3))
        counted = true.to(maps.dtype)
        if classes == "two":
            logits = maps.mean(dim=(2, 3))
            # masking before the softmax, not dividing after it: probabilities that underflow would give 0/0
            share = torch.softmax(logits.masked_fill(true, -torch.inf) if softmax == "others" else logits, dim=1)
            counted = share.masked_fill(true, 1)
        return factor * (counted * change).sum(dim=1).mean()

    def fit(maps: Tensor) -> Tensor:
        return F.cross_entropy(maps.mean(dim=(2, 3)), labels)

    fitted = fit(clean)

    def loss(perturbed: Tensor) -> Tensor:
        maps = network.maps(perturbed)
        return (fit(maps) if adversarial else fitted) + weight * discrepancy(maps)

    maximised = {
        "joint": loss,
        "loss": lambda perturbed: fit(network.maps(perturbed)),
        "discrepancy": lambda perturbed: discrepancy(network.maps(perturbed)),
    }
    return Objective(loss, maximised[inner], apart=True)
