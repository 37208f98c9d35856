"""Adam as TensorFlow 1 has it, and the released code's initial weights (protocol C.1)."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from irpipe.models import Network, build
from irpipe.optimise import Adam, draw_weights


class Weights(nn.Module):
    """Nothing but parameters."""

    def __init__(self, **values: object) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))


def test_adam_two_steps_by_hand() -> None:
    # Step 1, g = .5: m = .05, v = .00025, rate = .1 sqrt(.001) / .1 = .03162278,
    #   w = 1 - .03162278 * .05 / (.01581139 + 1e-8) = 1 - .1 + .1 * 1e-8 / .01581139 = .90000006
    # Step 2, g = -1: m = .045 - .1 = -.055, v = .00024975 + .001 = .00124975,
    #   rate = .1 sqrt(.001999) / .19 = .02353167,
    #   w = .90000006 + .02353167 * .055 / (.03535180 + 1e-8) = .90000006 + .03661035
    weights = Weights(w=[1.0])
    adam = Adam(weights)
    adam.step({"w": torch.tensor([0.5], dtype=torch.float64)}, 0.1)
    assert weights.w.item() == pytest.approx(0.9 + 1e-9 / 0.0158113883, abs=1e-13)
    assert (adam.first["w"].item(), adam.second["w"].item()) == pytest.approx((0.05, 0.00025), rel=1e-12)
    adam.step({"w": torch.tensor([-1.0], dtype=torch.float64)}, 0.1)
    assert weights.w.item() == pytest.approx(0.93661041, abs=1e-8)
    assert (adam.first["w"].item(), adam.second["w"].item()) == pytest.approx((-0.055, 0.00124975), rel=1e-12)
    assert adam.taken == 2


def test_epsilon_stands_beside_the_raw_root() -> None:
    # g = 1e-8: m = 1e-9, sqrt(v) = sqrt(1e-19) = 3.1622777e-10, rate = .03162278,
    # step = .03162278 * 1e-9 / (1e-8 + 3.1622777e-10) = .00306535; torch corrects first: .1 * 1e-8 / 2e-8 = .05.
    tiny = torch.tensor([1e-8], dtype=torch.float64)
    ours, theirs = Weights(w=[0.0]), Weights(w=[0.0])
    Adam(ours).step({"w": tiny}, 0.1)
    theirs.w.grad = tiny
    torch.optim.Adam(theirs.parameters(), lr=0.1, eps=1e-8).step()
    assert (ours.w.item(), theirs.w.item()) == pytest.approx((-0.00306535, -0.05), rel=1e-5)


def test_adam_equals_numpy_over_fifty_steps() -> None:
    rng = np.random.default_rng(3)
    values = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
    weights = Weights(**values)
    adam = Adam(weights)
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in values.items()}
    for step in range(1, 51):
        gradients = {name: rng.normal(scale=10.0 ** -(step % 10), size=value.shape) for name, value in values.items()}
        rate = 0.01 / step
        adam.step({name: torch.from_numpy(value) for name, value in gradients.items()}, rate)
        corrected = rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, gradient in gradients.items():
            m, v = moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            moments[name] = m, v
            values[name] = values[name] - corrected * m / (np.sqrt(v) + 1e-8)
            np.testing.assert_allclose(weights.get_parameter(name).detach().numpy(), values[name], rtol=1e-11)


# Convolutions as (kernel, inputs, outputs) and the head as (channels, classes), from protocol C.1.
SMALL = [(4, 1, 16), (4, 16, 32), (7, 32, 100)]
POOL = [(5, 1, 32), (5, 32, 64)]
WIDTHS = [16] * 6 + [32] * 5 + [64] * 5
WRESNET = [(3, 3, 16)]
for before, after in itertools.pairwise(WIDTHS):
    WRESNET += [(3, before, after), (3, after, after)]


@pytest.mark.parametrize(
    ("model", "shape", "convolutions", "channels"),
    [
        ("small", (1, 28, 28), SMALL, 100),
        ("pool", (1, 28, 28), POOL, 64),
        ("wresnet", (3, 32, 32), WRESNET, 64),
    ],
)
@pytest.mark.parametrize("seed", [99, 100])
def test_weights_are_the_released_codes_draws(
    model: str, shape: tuple[int, int, int], convolutions: list[tuple[int, int, int]], channels: int, seed: int
) -> None:
    network = build(model, shape, 10)
    ours = np.random.RandomState(seed)
    draw_weights(network, ours)
    theirs = np.random.RandomState(seed)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer, (k, inputs, outputs) in zip(layers, convolutions, strict=True):
        drawn = theirs.normal(scale=1 / np.sqrt(k * k * inputs), size=(outputs, k * k * inputs))
        hwio = drawn.T.reshape(k, k, inputs, outputs).astype(np.float32)
        assert np.array_equal(layer.weight.detach().numpy(), hwio.transpose(3, 2, 0, 1))
        assert layer.bias is not None
        assert not layer.bias.any()
    head = theirs.normal(scale=1 / np.sqrt(channels), size=(10, channels)).astype(np.float32)
    assert np.array_equal(network.head.detach().numpy(), head)
    assert ours.uniform() == theirs.uniform()  # and not one draw more


def test_first_weight_of_seed_99() -> None:
    # numpy's legacy generator: the first standard normal of seed 99 is -.14235884; Small's first layer has 16 inputs.
    network: Network = build("small", (1, 28, 28), 10)
    draw_weights(network, np.random.RandomState(99))
    assert network.trunk.get_parameter("0.weight")[0, 0, 0, 0].item() == pytest.approx(-0.14235884 / 4, rel=1e-6)
