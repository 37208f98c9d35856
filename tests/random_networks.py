"""Networks with random weights, and images for them."""

import torch

from irpipe.networks.architectures import build
from irpipe.networks.network import Network

MNIST = (1, 28, 28)
CIFAR = (3, 32, 32)
# What the checkpoint of such a network says of it.
IDENTITY = {
    "dataset": "digits",
    "data": {"kind": "digits"},
    "model": "small",
    "method": "normal",
    "run": "released",
}
MODEL_SHAPES = [("small", MNIST), ("small", CIFAR), ("pool", MNIST), ("wresnet", CIFAR)]


def random_network(
    model: str, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32
) -> Network:
    """Return a network whose weights are scaled as in training.

    Its biases are random, too, although training starts from zeros: a test must notice if a
    term gets lost.
    """
    network = build(model, shape, 10)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 25
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
    return network.to(dtype)


def random_images(shape: tuple[int, int, int], count: int = 2) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(8))
