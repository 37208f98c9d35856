"""Adam as TensorFlow 1 has it, and initial weights as the released code draws them (protocol C.1)."""

import numpy as np
import torch
from torch import Tensor, nn

from irpipe.models import Network

DECAY, DECAY_SQUARED, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam in its "epsilon-hat" form (Kingma and Ba, 2015, end of section 2): epsilon stands beside the raw root.

    `w -= rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`; torch's own Adam corrects v before the root.
    State: `first` and `second` moments by parameter name, and the count of steps taken.
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = dict(network.named_parameters())
        self.first = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.taken = 0

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor], rate: float) -> None:
        """Move the weights against `gradients` (by parameter name)."""
        self.taken += 1
        rate *= (1 - DECAY_SQUARED**self.taken) ** 0.5 / (1 - DECAY**self.taken)
        for name, weight in self.weights.items():
            first, second, gradient = self.first[name], self.second[name], gradients[name]
            first.lerp_(gradient, 1 - DECAY)
            second.lerp_(gradient.square(), 1 - DECAY_SQUARED)
            weight.addcdiv_(first, second.sqrt().add_(EPSILON), value=-rate)


@torch.no_grad()
def draw_weights(network: Network, rng: np.random.RandomState) -> None:
    """Set all weights to normal draws of scale 1/sqrt(inputs of a unit), layer by layer in forward order; biases 0.

    Convolutions are drawn as `[outputs, k * k * inputs]`, the inputs varying fastest; the head comes last.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, height, width = module.weight.shape
            fan = height * width * inputs
            drawn = rng.normal(scale=1 / np.sqrt(fan), size=(outputs, fan)).reshape(outputs, height, width, inputs)
            module.weight.copy_(torch.from_numpy(drawn.transpose(0, 3, 1, 2)))
            if module.bias is not None:
                module.bias.zero_()
    classes, channels = network.head.shape
    network.head.copy_(torch.from_numpy(rng.normal(scale=1 / np.sqrt(channels), size=(classes, channels))))
