"""Int, Int-Adv and Int-1-class: interpretability-aware robust training (paper section 4; C.2)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.networks.network import Classifier
from irpipe.option_types import NotNegative


def objective(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    # Weight of D; the paper's gamma is 2u times it (C.3 T2, T4).
    reg_weight: NotNegative = 0.01,
    # Whose maps count: the true class alone, or the other classes too (C.2).
    class_set: Literal["one", "two"] = "two",
    # Cross-entropy of the perturbed images: Int-Adv (C.2).
    adversarial: bool = False,
    # The factors 1/2 of eq (8), which the released code does not have (C.3 T2).
    half_factors: bool = False,
    # Classes over which the softmax q is taken (C.3 T3).
    softmax_over: Literal["other", "all"] = "other",
    # What the perturbation maximises (C.3 T5).
    inner_loss: Literal["total", "cross_entropy", "discrepancy"] = "total",
) -> Objective:
    """Int: minimise cross-entropy + reg_weight * max_{x'} D(x, x'), paper eq (9), with eq (8):

        D(x, x') = ||L(x, t) - L(x', t)||_1 + sum_{c != t} q_c ||L(x, c) - L(x', c)||_1

    L(x, c) is the class activation map of class c, t the true class, q the softmax of the
    logits f(x') over the other classes. Gradients flow through q (C.2). Int-1-class has the
    first term of D only.
    """
    clean_maps = network.maps(images)  # L(x, c) for all classes c, [N, C, h, w]
    class_indices = torch.arange(clean_maps.shape[1], device=labels.device)
    is_true = labels[:, None] == class_indices  # [N, C]
    factor = 0.5 if half_factors else 1.0

    def discrepancy(maps: Tensor) -> Tensor:
        """D(x, x'), averaged over the batch, from the maps L(x', c)."""
        distance = (maps - clean_maps).abs().sum(dim=(2, 3))  # ||L(x, c) - L(x', c)||_1
        weight = is_true.to(maps.dtype)
        if class_set == "two":
            logits = maps.mean(dim=(2, 3))  # f(x')
            if softmax_over == "other":
                # Mask before the softmax: dividing afterwards gives 0/0 on underflow.
                logits = logits.masked_fill(is_true, -torch.inf)
            q = torch.softmax(logits, dim=1)
            weight = q.masked_fill(is_true, 1)
        return factor * (weight * distance).sum(dim=1).mean()

    def cross_entropy(maps: Tensor) -> Tensor:
        """CE(f, t), averaged over the batch, from the maps L(x, c) or L(x', c)."""
        return F.cross_entropy(maps.mean(dim=(2, 3)), labels)

    clean_cross_entropy = cross_entropy(clean_maps)

    def loss(perturbed: Tensor) -> Tensor:
        maps = network.maps(perturbed)
        ce = cross_entropy(maps) if adversarial else clean_cross_entropy
        return ce + reg_weight * discrepancy(maps)

    inner_losses = {
        "total": loss,
        "cross_entropy": lambda perturbed: cross_entropy(network.maps(perturbed)),
        "discrepancy": lambda perturbed: discrepancy(network.maps(perturbed)),
    }
    return Objective(loss, inner_losses[inner_loss], separable=True)
