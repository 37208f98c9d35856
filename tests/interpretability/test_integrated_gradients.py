"""Integrated gradients against captum, the plain sum and double backward."""

# captum imports torchvision, so this comes first.
import irpipe.datasets._torchvision  # noqa: F401  # isort: skip
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from random_networks import CIFAR, MNIST, MODEL_SHAPES, random_images, random_network
from torch import Tensor, nn

from irpipe.interpretability import _two_layer_ig, integrated_gradients
from irpipe.interpretability.integrated_gradients import N_POINTS, gauss_rule
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import load_network
from irpipe.networks.network import Network
from irpipe.networks.released import read_released
from irpipe.option_types import InterpreterVariant

CLASSES = torch.tensor([[3, 0], [7, 7]])  # two classes for each of two images
VARIANTS: tuple[InterpreterVariant, ...] = ("released", "original")


def double_network(model: str, shape: tuple[int, int, int]) -> Network:
    return random_network(model, shape, torch.float64).requires_grad_(False)


def maps_and_gradient(
    network: Network | FoldedNetwork, images: Tensor, classes: Tensor | None, **options: Any
) -> list[Tensor]:
    """The maps, and the gradient for the images of the maps times random weights."""
    variable = images.clone().requires_grad_()
    maps = interpret(network, variable, "ig", classes, **options)
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(maps.shape, generator=generator, dtype=maps.dtype)
    return [maps.detach(), *torch.autograd.grad((weights * maps).sum(), variable)]


def relative_differences(values: list[Tensor], expected: list[Tensor]) -> list[float]:
    """The largest difference of each pair, as a share of the largest expected entry."""
    return [
        float((value - other).abs().max() / other.abs().max())
        for value, other in zip(values, expected, strict=True)
    ]


# --- the Gauss rule ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_terms", [1, 2, N_POINTS, N_POINTS + 1, 100, 1000])
def test_gauss_rule_is_exact_for_polynomials(n_terms: int) -> None:
    alphas, weights = np.array(gauss_rule(n_terms)).T
    assert len(alphas) == min(n_terms, N_POINTS)
    path = np.arange(1, n_terms + 1) / n_terms
    for degree in range(2 * len(alphas)):
        assert weights @ alphas**degree == pytest.approx((path**degree).mean(), rel=1e-12)
    assert (weights > 0).all()
    assert (alphas > 0).all()
    assert alphas.max() <= 1 + 1e-12


def test_gauss_rule_of_few_terms_is_their_sum() -> None:
    alphas, weights = np.array(gauss_rule(4)).T
    assert alphas == pytest.approx([0.25, 0.5, 0.75, 1])
    assert weights == pytest.approx([0.25] * 4)


def test_gauss_rule_of_many_terms_is_that_of_the_integral() -> None:
    points, weights = np.polynomial.legendre.leggauss(N_POINTS)
    rule = np.array(gauss_rule(10**6))
    np.testing.assert_allclose(rule, np.stack([(points + 1) / 2, weights / 2], 1), atol=1e-6)


# --- against captum ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [MNIST, CIFAR])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("is_folded", [False, True])
def test_integrated_gradients_equal_captum(
    shape: tuple[int, int, int], variant: InterpreterVariant, is_folded: bool
) -> None:
    network = double_network("small", shape)
    images = random_images(shape).double()
    first, _, second, _ = network.backbone
    activation = nn.Softplus() if variant == "released" else nn.ReLU()
    layers = nn.Sequential(first, activation, second, activation, network.last_conv)

    def logits(points: Tensor) -> Tensor:
        return layers(points).mean(dim=(2, 3)) @ network.head.T

    library = captum.attr.IntegratedGradients(logits)
    either = FoldedNetwork(network, shape) if is_folded else network
    maps = interpret(either, images, "ig", CLASSES, variant=variant, ig_steps=20)
    assert maps.shape == (2, 2, *shape)
    for k, target in enumerate(CLASSES.T):
        expected = library.attribute(images, target=target, n_steps=20, method="riemann_right")
        np.testing.assert_allclose(maps[:, k], expected, atol=1e-12)
    assert maps.abs().max() > 1e-3


def test_integrated_gradients_of_relu_are_complete_and_those_of_softplus_are_not() -> None:
    network = double_network("small", MNIST)
    images = random_images(MNIST).double()
    change = (network(images) - network(torch.zeros_like(images))).gather(1, CLASSES)

    def relative_error(variant: InterpreterVariant, ig_steps: int) -> float:
        maps = interpret(network, images, "ig", CLASSES, variant=variant, ig_steps=ig_steps)
        return float((maps.sum(dim=(2, 3, 4)) - change).abs().max() / change.abs().max())

    errors = [relative_error("original", ig_steps) for ig_steps in (5, 50, 500)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]  # the error of a Riemann sum
    assert errors[2] < 0.01
    assert relative_error("released", 500) > 0.05


# --- quadrature against the plain sum ------------------------------------------------------------


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_quadrature_equals_the_sum(model: str, shape: tuple[int, int, int]) -> None:
    folded = FoldedNetwork(random_network(model, shape).requires_grad_(False), shape)
    images = random_images(shape)
    ig_steps = 100 if model == "small" else 12
    by_quadrature, by_sum = (
        maps_and_gradient(folded, images, CLASSES, ig_steps=ig_steps, ig_rule=rule)
        for rule in ("quadrature", "sum")
    )
    map_difference, gradient_difference = relative_differences(by_quadrature, by_sum)
    assert map_difference < 1e-4
    assert gradient_difference < 1e-3
    # The gradients of Pool jump along the path and those of WResnet change too fast.
    has_sum = torch.equal(by_quadrature[0], by_sum[0])
    assert has_sum == (model != "small")


@pytest.mark.parametrize(
    ("dataset", "shape", "name"),
    [
        ("mnist", MNIST, "mnist_smallgap_normal_100"),
        ("mnist", MNIST, "mnist_smallgap_int_100"),
        ("cifar10", CIFAR, "cifar_smallgap_normal_200"),
    ],
)
def test_quadrature_equals_the_sum_on_released_networks(
    dataset: str, shape: tuple[int, int, int], name: str, shared: Path
) -> None:
    file = shared / "released" / "networks" / f"{name}.pkl"
    method = name.split("_")[2]
    checkpoint = read_released(file, dataset, {"kind": dataset}, "small", method)
    folded = FoldedNetwork(load_network(checkpoint, file), shape)
    by_quadrature, by_sum = (
        maps_and_gradient(folded, random_images(shape), CLASSES, ig_rule=rule)
        for rule in ("quadrature", "sum")
    )
    map_difference, gradient_difference = relative_differences(by_quadrature, by_sum)
    assert map_difference < 1e-5
    assert gradient_difference < 1e-4


def test_networks_with_relu_get_the_sum() -> None:
    folded = FoldedNetwork(double_network("small", MNIST), MNIST)
    images = random_images(MNIST).double()
    by_quadrature, by_sum = (
        interpret(folded, images, "ig", CLASSES, variant="original", ig_steps=12, ig_rule=rule)
        for rule in ("quadrature", "sum")
    )
    assert torch.equal(by_quadrature, by_sum)


# --- the derivatives that are written out --------------------------------------------------------


# In the last shape, the strides leave out rows and columns.
@pytest.mark.parametrize("shape", [MNIST, CIFAR, (2, 15, 18)])
@pytest.mark.parametrize("classes", [CLASSES, CLASSES[:, :1], None])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_written_out_derivatives_equal_double_backward(
    shape: tuple[int, int, int], classes: Tensor | None, memory_format: torch.memory_format
) -> None:
    network = double_network("small", shape).to(memory_format=memory_format)
    images = random_images(shape).double()
    values = maps_and_gradient(FoldedNetwork(network, shape), images, classes)
    expected = maps_and_gradient(network, images, classes)
    assert max(relative_differences(values, expected)) < 1e-9


def test_maps_with_and_without_a_gradient_are_equal_to_the_last_bit() -> None:
    # ISA's discrepancy is then exactly 0 at the clean images.
    folded = FoldedNetwork(random_network("small", MNIST).requires_grad_(False), MNIST)
    images = random_images(MNIST)
    with_gradient, _ = maps_and_gradient(folded, images, CLASSES)
    with torch.no_grad():
        assert torch.equal(interpret(folded, images, "ig", CLASSES), with_gradient)


# --- memory --------------------------------------------------------------------------------------


def test_chunks_of_the_path_bound_the_batch_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folded = FoldedNetwork(double_network("small", MNIST), MNIST)
    images = random_images(MNIST).double()
    batch_sizes: list[int] = []

    def run() -> list[Tensor]:
        return maps_and_gradient(folded, images, CLASSES, ig_steps=10, ig_rule="sum")

    in_one_chunk = run()
    monkeypatch.setattr(integrated_gradients, "MAX_ELEMENTS", 3 * images.numel() + 1)
    folded.with_softplus.backbone.register_forward_hook(
        lambda module, inputs, output: batch_sizes.append(len(output))
    )
    for value, expected in zip(run(), in_one_chunk, strict=True):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    assert set(batch_sizes) == {6, 2}  # three points of two images, then the last point


@pytest.mark.parametrize("maps_per_chunk", [1, 2])
def test_chunks_of_images_change_nothing(
    maps_per_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = FoldedNetwork(double_network("small", MNIST), MNIST)
    images = random_images(MNIST).double()
    in_one_chunk = maps_and_gradient(folded, images, CLASSES)
    monkeypatch.setattr(_two_layer_ig, "MAPS_PER_CHUNK", maps_per_chunk)
    for value, expected in zip(
        maps_and_gradient(folded, images, CLASSES), in_one_chunk, strict=True
    ):
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
