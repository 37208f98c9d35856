"""Int, Int-Adv and Int-1-class: interpretability-aware robust training (paper section 4; C.2)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective
from irpipe.methods._discrepancy import Discrepancy
from irpipe.methods._linear_loss import log_softmax_chain
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
    clean_maps = network.maps(images)
    factor = 0.5 if half_factors else 1.0
    discrepancy = Discrepancy(clean_maps, labels, class_set, softmax_over, factor)

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
    return Objective(
        loss,
        inner_losses[inner_loss],
        inner_chain=_inner_chain(network, labels, discrepancy, reg_weight, adversarial, inner_loss),
        separable=True,
    )


def _inner_chain(
    network: Classifier,
    labels: Tensor,
    discrepancy: Discrepancy,
    reg_weight: float,
    adversarial: bool,
    inner_loss: str,
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The maps L(x', c), and the gradient of the inner loss for them."""
    weight = 1.0 if inner_loss == "discrepancy" else reg_weight
    discrepancy_gradient = discrepancy.gradient_function(lambda d: weight * d)
    chain = log_softmax_chain(
        lambda maps: maps.mean(dim=(2, 3)), lambda log_q: F.nll_loss(log_q, labels)
    )

    def cross_entropy_gradient(maps: Tensor) -> Tensor:
        maps = maps.detach().requires_grad_()
        log_q, log_q_gradient = chain(maps)
        return torch.autograd.grad(log_q, maps, log_q_gradient)[0]

    def inner_chain(perturbed: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of the perturbed images, and the gradient for them."""
        maps = network.maps(perturbed)
        if inner_loss == "cross_entropy":
            return maps, cross_entropy_gradient(maps)
        gradient = discrepancy_gradient(maps.detach())
        if adversarial and inner_loss == "total":
            gradient = gradient + cross_entropy_gradient(maps)
        return maps, gradient

    return inner_chain
