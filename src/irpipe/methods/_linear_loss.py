"""Losses that are linear in something that the network computes: their gradient is a constant."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def constant_gradient(loss: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Gradient of a scalar loss for its argument, in which it is linear, shaped like `like`."""
    with torch.enable_grad():
        point = torch.zeros_like(like, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(point), point)
    return gradient


def log_softmax_chain(
    logits_of: Callable[[Tensor], Tensor], loss: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the chain of a loss that is linear in log q, q = softmax(f(x')); `loss` gets log q.

    It is an `Objective.inner_chain`. `logits_of` gives f(x') for x'.
    """
    gradient: Tensor | None = None

    def chain(perturbed: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal gradient
        log_q = F.log_softmax(logits_of(perturbed), dim=1)
        if gradient is None:
            gradient = constant_gradient(loss, log_q)
        return log_q, gradient

    return chain
