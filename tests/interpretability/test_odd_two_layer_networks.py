"""Two-layer networks with options that Small has not: short ways give what autograd gives."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from irpipe.interpretability.interpreters import interpret
from irpipe.methods.ig_norm import attributions
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network

SHAPE = (1, 12, 12)
CONVOLUTIONS: dict[str, Callable[[int, int], nn.Conv2d]] = {
    "circular padding": lambda i, o: nn.Conv2d(i, o, 3, padding=1, padding_mode="circular"),
    "dilation": lambda i, o: nn.Conv2d(i, o, 3, padding=1, dilation=2),
    "a stride down": lambda i, o: nn.Conv2d(i, o, 3, (2, 1), padding=1),
    "no bias": lambda i, o: nn.Conv2d(i, o, 3, 2, padding=1, bias=False),
}


def network_of(
    convolution: Callable[[int, int], nn.Conv2d], nonlinearity: Callable[[], nn.Module]
) -> Network:
    torch.manual_seed(5)
    layers = [convolution(1, 3), nonlinearity(), convolution(3, 4), nonlinearity()]
    network = Network(nn.Sequential(*layers), None, 4, 3)
    nn.init.normal_(network.head)
    return network.double().requires_grad_(False)


def plain(i: int, o: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, 2, padding=1)


def steep() -> nn.Module:
    return nn.Softplus(beta=5)


@pytest.mark.parametrize(
    ("convolution", "nonlinearity"),
    [*((convolution, nn.Softplus) for convolution in CONVOLUTIONS.values()), (plain, steep)],
    ids=[*CONVOLUTIONS, "steep softplus"],
)
def test_integrated_gradients(
    convolution: Callable[[int, int], nn.Conv2d], nonlinearity: Callable[[], nn.Module]
) -> None:
    network = network_of(convolution, nonlinearity)
    images = torch.rand(2, *SHAPE, dtype=torch.float64)
    folded, expected = (
        interpret(each, images, "ig", variant="original")
        for each in (FoldedNetwork(network, SHAPE), network)
    )
    torch.testing.assert_close(folded, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("convolution", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_integrated_gradients_of_the_loss(convolution: Callable[[int, int], nn.Conv2d]) -> None:
    network = network_of(convolution, nn.ReLU)
    images, perturbed = torch.rand(2, 2, *SHAPE, dtype=torch.float64)
    labels = torch.tensor([0, 2])
    folded, expected = (
        attributions(each, images, perturbed, labels, 5)
        for each in (FoldedNetwork(network, SHAPE), network)
    )
    torch.testing.assert_close(folded, expected, rtol=1e-9, atol=1e-12)
