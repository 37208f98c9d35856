"""The Adam optimiser of TensorFlow 1, with which the released networks were trained (C.1)."""

import torch
from torch import Tensor, nn

BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8


class TensorFlowAdam:
    """Adam in the form that Kingma and Ba (2015, end of section 2) call "epsilon hat":

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        w -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + e)

    `torch.optim.Adam` corrects v before it takes the root, and adds e to the corrected root.

    The state is `exp_avg` (m) and `exp_avg_sq` (v), both by parameter name, and `step_count` (t).
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = dict(network.named_parameters())
        self.exp_avg = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.exp_avg_sq = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.step_count = 0

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], lr: float) -> None:
        """Update the weights, in place, with their gradients by parameter name."""
        self.step_count += 1
        t = self.step_count
        step_size = lr * ((1 - BETA2**t) ** 0.5 / (1 - BETA1**t))
        for name, weight in self.weights.items():
            m = self.exp_avg[name].lerp_(gradients[name], 1 - BETA1)
            v = self.exp_avg_sq[name].lerp_(gradients[name].square(), 1 - BETA2)
            weight.addcdiv_(m, v.sqrt().add_(EPSILON), value=-step_size)
