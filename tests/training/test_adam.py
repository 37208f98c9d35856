"""The Adam optimiser of TensorFlow 1 and the released code's initial weights (C.1)."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from irpipe.networks.architectures import build
from irpipe.networks.network import Network
from irpipe.training.adam import TensorFlowAdam, step_sizes
from irpipe.training.weight_init import draw_weights


class Weights(nn.Module):
    """A module that has parameters only."""

    def __init__(self, **values: object) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.float64)))


def test_adam_two_steps_by_hand() -> None:
    # Step 1, g = .5: m = .05, v = .00025, step size = .1 sqrt(.001) / .1 = .03162278,
    #   w = 1 - .03162278 * .05 / (.01581139 + 1e-8) = 1 - .1 + .1 * 1e-8 / .01581139 = .90000006
    # Step 2, g = -1: m = .045 - .1 = -.055, v = .00024975 + .001 = .00124975,
    #   step size = .1 sqrt(.001999) / .19 = .02353167,
    #   w = .90000006 + .02353167 * .055 / (.03535180 + 1e-8) = .90000006 + .03661035
    weights = Weights(w=[1.0])
    adam = TensorFlowAdam(weights)
    first, second = (torch.tensor(size, dtype=torch.float64) for size in step_sizes([0.1, 0.1]))
    adam.step([torch.tensor([0.5], dtype=torch.float64)], first)
    assert weights.w.item() == pytest.approx(0.9 + 1e-9 / 0.0158113883, abs=1e-13)
    moments = adam.exp_avg["w"].item(), adam.exp_avg_sq["w"].item()
    assert moments == pytest.approx((0.05, 0.00025), rel=1e-12)
    adam.step([torch.tensor([-1.0], dtype=torch.float64)], second)
    assert weights.w.item() == pytest.approx(0.93661041, abs=1e-8)
    moments = adam.exp_avg["w"].item(), adam.exp_avg_sq["w"].item()
    assert moments == pytest.approx((-0.055, 0.00124975), rel=1e-12)


def test_epsilon_is_added_to_the_root_of_the_uncorrected_moment() -> None:
    # g = 1e-8: m = 1e-9, sqrt(v) = sqrt(1e-19) = 3.1622777e-10, step size = .03162278,
    # change = .03162278 * 1e-9 / (1e-8 + 3.1622777e-10) = .00306535.
    # torch corrects first: .1 * 1e-8 / 2e-8 = .05.
    gradient = torch.tensor([1e-8], dtype=torch.float64)
    tensorflow, pytorch = Weights(w=[0.0]), Weights(w=[0.0])
    (step_size,) = step_sizes([0.1])
    TensorFlowAdam(tensorflow).step([gradient], torch.tensor(step_size, dtype=torch.float64))
    pytorch.w.grad = gradient
    torch.optim.Adam(pytorch.parameters(), lr=0.1, eps=1e-8).step()
    updates = tensorflow.w.item(), pytorch.w.item()
    assert updates == pytest.approx((-0.00306535, -0.05), rel=1e-5)


def test_adam_equals_numpy_over_fifty_steps() -> None:
    rng = np.random.default_rng(3)
    values = {"a": rng.normal(size=(3, 4)), "b": rng.normal(size=5)}
    weights = Weights(**values)
    adam = TensorFlowAdam(weights)
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in values.items()}
    lrs = [0.01 / step for step in range(1, 51)]
    for step, size in enumerate(step_sizes(lrs), start=1):
        gradients = {
            name: rng.normal(scale=10.0 ** -(step % 10), size=value.shape)
            for name, value in values.items()
        }
        tensors = [torch.from_numpy(value) for value in gradients.values()]
        adam.step(tensors, torch.tensor(size, dtype=torch.float64))
        step_size = 0.01 / step * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, gradient in gradients.items():
            m, v = moments[name]
            m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
            moments[name] = m, v
            values[name] = values[name] - step_size * m / (np.sqrt(v) + 1e-8)
            weight = weights.get_parameter(name).detach().numpy()
            np.testing.assert_allclose(weight, values[name], rtol=1e-11)


# Convolutions as (kernel size, inputs, outputs), from C.1.
SMALL = [(4, 1, 16), (4, 16, 32), (7, 32, 100)]
POOL = [(5, 1, 32), (5, 32, 64)]
WIDTHS = [16] * 6 + [32] * 5 + [64] * 5
WRESNET = [(3, 3, 16)]
for inputs, outputs in itertools.pairwise(WIDTHS):
    WRESNET += [(3, inputs, outputs), (3, outputs, outputs)]


@pytest.mark.parametrize(
    ("model", "shape", "convolutions", "channels"),
    [
        ("small", (1, 28, 28), SMALL, 100),
        ("pool", (1, 28, 28), POOL, 64),
        ("wresnet", (3, 32, 32), WRESNET, 64),
    ],
)
@pytest.mark.parametrize("seed", [99, 100])
def test_initial_weights_are_the_draws_of_the_released_code(
    model: str,
    shape: tuple[int, int, int],
    convolutions: list[tuple[int, int, int]],
    channels: int,
    seed: int,
) -> None:
    network = build(model, shape, 10)
    rng = np.random.RandomState(seed)
    draw_weights(network, rng)
    expected_rng = np.random.RandomState(seed)
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer, (k, inputs, outputs) in zip(layers, convolutions, strict=True):
        scale, size = 1 / np.sqrt(k * k * inputs), (outputs, k * k * inputs)
        weight = expected_rng.normal(scale=scale, size=size).T
        hwio = weight.reshape(k, k, inputs, outputs).astype(np.float32)
        assert np.array_equal(layer.weight.detach().numpy(), hwio.transpose(3, 2, 0, 1))
        assert layer.bias is not None
        assert not layer.bias.any()
    head = expected_rng.normal(scale=1 / np.sqrt(channels), size=(10, channels))
    assert np.array_equal(network.head.detach().numpy(), head.astype(np.float32))
    # Nothing else was drawn.
    assert rng.uniform() == expected_rng.uniform()


def test_first_weight_of_seed_99() -> None:
    # The first standard normal number of numpy's legacy generator with seed 99 is -.14235884. A
    # unit of Small's first layer has 16 inputs.
    network: Network = build("small", (1, 28, 28), 10)
    draw_weights(network, np.random.RandomState(99))
    weight = network.backbone.get_parameter("0.weight")[0, 0, 0, 0].item()
    assert weight == pytest.approx(-0.14235884 / 4, rel=1e-6)
