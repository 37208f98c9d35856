"""The Adam optimiser of TensorFlow 1, with which the released networks were trained (C.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


class TensorFlowAdam:
    """Adam in the form that Kingma and Ba (2015, end of section 2) call "epsilon hat":

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        w -= s_t m / (sqrt(v) + e),  s_t = lr_t sqrt(1 - b2^t) / (1 - b1^t)

    `torch.optim.Adam` corrects v before it takes the root, and adds e to the corrected root.

    The state is `exp_avg` (m) and `exp_avg_sq` (v), both by parameter name.
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = dict(network.named_parameters())
        self.exp_avg = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.exp_avg_sq = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    @torch.no_grad()
    def step(self, gradients: list[Tensor], step_size: Tensor) -> None:
        """Update the weights, in place, with their gradients, which have the order of `weights`.

        `step_size` is s_t, a scalar on the device of the weights, which a graph can read.
        """
        m, v = list(self.exp_avg.values()), list(self.exp_avg_sq.values())
        torch._foreach_lerp_(m, gradients, 1 - BETA1)
        torch._foreach_lerp_(v, torch._foreach_mul(gradients, gradients), 1 - BETA2)
        denominators = list(torch._foreach_sqrt(v))
        torch._foreach_add_(denominators, EPSILON)
        changes = list(torch._foreach_mul(m, step_size))
        torch._foreach_div_(changes, denominators)
        torch._foreach_sub_(list(self.weights.values()), changes)


def step_sizes(lrs: Sequence[float]) -> list[float]:
    """The step sizes s_t of Adam from the learning rates of all steps, t = 1, 2, ..."""
    return [lr * ((1 - BETA2**t) ** 0.5 / (1 - BETA1**t)) for t, lr in enumerate(lrs, start=1)]
