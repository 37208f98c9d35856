"""Initial weights as the released code draws them (C.1)."""

import numpy as np
import torch
from torch import nn

from irpipe.networks.network import Network


@torch.no_grad()
def draw_weights(network: Network, rng: np.random.RandomState) -> None:
    """Draw all weights from a normal distribution and set all biases to 0.

    The standard deviation is 1/sqrt(fan_in), where fan_in is the number of inputs of a unit.
    Convolutions come in forward order, each as `[outputs, k * k * inputs]` with the inputs
    varying fastest. The head comes last.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            outputs, inputs, height, width = module.weight.shape
            fan_in = height * width * inputs
            weight = rng.normal(scale=1 / np.sqrt(fan_in), size=(outputs, fan_in))
            weight = weight.reshape(outputs, height, width, inputs).transpose(0, 3, 1, 2)
            module.weight.copy_(torch.from_numpy(weight))
            if module.bias is not None:
                module.bias.zero_()
    n_classes, channels = network.head.shape
    head = rng.normal(scale=1 / np.sqrt(channels), size=(n_classes, channels))
    network.head.copy_(torch.from_numpy(head))
