"""The discrepancy of a batch as a function of its perturbed maps, and its gradient (eq (8))."""

import functools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from irpipe.methods._linear_loss import constant_gradient


class Discrepancy:
    """D(x, x') as a function of the maps L(x', c) `[N, C, h, w]`, averaged over the batch:

        D = factor * sum_c w_c d_c,  d_c = ||L(x, c) - L(x', c)||_1

    The weight w_c is 1 for the true class t. For other classes it is 0 if `class_set` is "one",
    else q_c, the softmax of the logits f(x') over the classes that `softmax_over` names.
    """

    def __init__(
        self,
        clean_maps: Tensor,
        labels: Tensor,
        class_set: Literal["one", "two"],
        softmax_over: Literal["other", "all"],
        factor: float,
    ) -> None:
        """`clean_maps` are L(x, c), `[N, C, h, w]`."""
        self.clean_maps = clean_maps
        self.class_set = class_set
        self.softmax_over = softmax_over
        self.factor = factor
        class_indices = torch.arange(clean_maps.shape[1], device=labels.device)
        self.is_true = labels[:, None] == class_indices  # [N, C]

    def __call__(self, maps: Tensor) -> Tensor:
        """Return D."""
        distance = (maps - self.clean_maps).abs().sum(dim=(2, 3))
        weight = self.is_true.to(maps.dtype)
        if self.class_set == "two":
            q = torch.softmax(self._logits(maps), dim=1)
            weight = q.masked_fill(self.is_true, 1)
        return self._mean((weight * distance).sum(dim=1))

    def gradient_function(self, loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the gradient for the maps of `loss(D)`, which is linear, as a function of them."""

        @functools.cache
        def sum_gradients() -> tuple[Tensor, Tensor]:
            """The gradient for the sum over c, `[N, C]`: at the true class and at the others."""
            sums = self.clean_maps[:, 0, 0, 0]
            gradient = constant_gradient(lambda sums: loss(self._mean(sums)), sums)[:, None]
            return gradient * self.is_true, gradient * ~self.is_true

        return lambda maps: self._gradient(maps, *sum_gradients())

    def _mean(self, sums: Tensor) -> Tensor:
        """Return D from sum_c w_c d_c of each image, `[N]`."""
        return self.factor * sums.mean()

    def _gradient(self, maps: Tensor, of_true: Tensor, of_others: Tensor) -> Tensor:
        """The gradient for the maps, of which `of_true` and `of_others` are a factor:

        w_c sign(L(x', c) - L(x, c)) + (1 / h w) q_c ([c != t] d_c - sum_{k != t} q_k d_k)
        """
        change = maps - self.clean_maps
        sign = change.sign()
        if self.class_set == "one":
            return of_true[..., None, None] * sign
        logits = self._logits(maps).requires_grad_()
        q = torch.softmax(logits, dim=1)
        distance = change.abs().sum(dim=(2, 3))
        (through_q,) = torch.autograd.grad(q, logits, of_others * distance)
        through_q = through_q / maps[0, 0].numel()
        weight = torch.addcmul(of_true, of_others, q.detach())
        return torch.addcmul(through_q[..., None, None], weight[..., None, None], sign)

    def _logits(self, maps: Tensor) -> Tensor:
        """f(x') `[N, C]`, -inf for classes over which q is not taken."""
        logits = maps.mean(dim=(2, 3))
        if self.softmax_over == "all":
            return logits
        # Mask before the softmax: dividing afterwards gives 0/0 on underflow.
        return logits.masked_fill(self.is_true, -torch.inf)
