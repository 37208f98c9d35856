"""What holds for every method, those of the shipped configs and those of no config."""

import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_classifier import LABELS, TanhClassifier, tiny_batch
from torch import Tensor
from torch.nn import functional as F

from irpipe import config
from irpipe.ascent.gradient_ascent import objective_gradient
from irpipe.config import yaml_reader
from irpipe.config.kinds import kinds, resolve_entry
from irpipe.methods import Objective
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.training.weight_init import draw_weights

ENTRIES = [
    (f"{path.stem}-{name}", entry)
    for path in sorted(config.CONFIG_FOLDER.glob("*.yaml"))
    for name, entry in yaml_reader.read_yaml(path).get("methods", {}).items()
]
SHIPPED = {entry["kind"] for _, entry in ENTRIES}
ENTRIES += [(kind, {"kind": kind}) for kind in kinds("methods") if kind not in SHIPPED]
every_method = pytest.mark.parametrize(
    "entry", [entry for _, entry in ENTRIES], ids=[name for name, _ in ENTRIES]
)


def objective(entry: dict[str, Any], network: Any, images: Tensor, labels: Tensor) -> Objective:
    options = resolve_entry("methods", entry, "test")
    method = importlib.import_module(f"irpipe.methods.{options.pop('kind')}")
    function: Callable[..., Objective] = method.objective
    return function(network, images, labels, **options)


def small_batch() -> tuple[Network, Tensor, Tensor, Tensor]:
    """A network, images and perturbed images `[3, 1, 28, 28]`, and labels."""
    network, generator = build("small", (1, 28, 28), 10), torch.Generator().manual_seed(2)
    draw_weights(network, np.random.RandomState(3))
    with torch.no_grad():
        network.head *= 30  # as drawn, the logits hardly depend on the image
    images = torch.rand(3, 1, 28, 28, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return network, images, (images + 0.1 * noise).clamp(0, 1), torch.tensor([1, 7, 7])


def test_every_kind_is_tried() -> None:
    tried = {entry["kind"] for _, entry in ENTRIES}
    assert tried == set(kinds("methods"))
    assert tried >= {"cross_entropy", "interpretability_aware"}


@every_method
def test_gradients_equal_finite_differences(entry: dict[str, Any]) -> None:
    def loss(matrix: Tensor, images: Tensor, perturbed: Tensor) -> Tensor:
        labels = torch.from_numpy(LABELS)
        return objective(entry, TanhClassifier(matrix), images, labels).loss(perturbed)

    inputs = tuple(tensor.requires_grad_() for tensor in tiny_batch())
    assert torch.autograd.gradcheck(loss, inputs, atol=1e-7, rtol=1e-5)


@every_method
def test_the_loss_is_a_finite_scalar_that_depends_on_every_weight(entry: dict[str, Any]) -> None:
    network, images, perturbed, labels = small_batch()
    small = objective(entry, network, images, labels)
    loss = small.loss(perturbed if small.uses_adversarial else images)
    assert loss.shape == ()
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, list(network.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    depends_on_images = small.loss(perturbed).item() != small.loss(images).item()
    assert depends_on_images == small.uses_adversarial


@every_method
def test_without_a_perturbation_only_the_cross_entropy_is_left(entry: dict[str, Any]) -> None:
    network, images, _, labels = small_batch()
    loss = objective(entry, network, images, labels).loss(images)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    cross_entropy = F.cross_entropy(network(images), labels)
    scale = (loss / cross_entropy).item()
    assert scale == pytest.approx(round(scale), rel=1e-5)
    assert round(scale) in {1, len(labels)}  # C.2: the loss of TRADES is a sum over the batch
    expected = torch.autograd.grad(cross_entropy, list(network.parameters()))
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, scale * expected_gradient, rtol=1e-4, atol=1e-5)


@every_method
def test_the_inner_loss_is_the_same_on_the_folded_network(entry: dict[str, Any]) -> None:
    network, images, perturbed, labels = small_batch()
    folded = FoldedNetwork(network, images.shape[1:])
    with torch.no_grad():  # as in training
        folded_loss = objective(entry, folded, images, labels).get_inner_loss()
    plain = objective(entry, network, images, labels)
    points = [perturbed.clone().requires_grad_() for _ in range(2)]
    losses = folded_loss(points[0]), plain.get_inner_loss()(points[1])
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
    if plain.uses_adversarial:
        (folded_gradient,) = torch.autograd.grad(losses[0], points[0])
        (plain_gradient,) = torch.autograd.grad(losses[1], points[1])
        largest = plain_gradient.abs().max().item()
        assert largest > 1e-4
        torch.testing.assert_close(folded_gradient, plain_gradient, rtol=1e-3, atol=largest / 1000)


@every_method
def test_parts_of_a_batch_have_the_same_gradient_signs_if_the_method_is_separable(
    entry: dict[str, Any],
) -> None:
    network, images, perturbed, labels = small_batch()
    network, images, perturbed = network.double(), images.double(), perturbed.double()

    def gradient_sign(rows: slice) -> Tensor:
        inner_loss = objective(entry, network, images[rows], labels[rows]).get_inner_loss()
        point = perturbed[rows].clone().requires_grad_()
        return torch.autograd.grad(inner_loss(point), point)[0].sign()

    batch = objective(entry, network, images, labels)
    if batch.uses_adversarial:
        complete = gradient_sign(slice(None))
        in_parts = torch.cat([gradient_sign(slice(1)), gradient_sign(slice(1, None))])
        assert (complete != 0).any()
        assert torch.equal(complete, in_parts) == batch.separable


CHOICES = itertools.product(
    ["total", "cross_entropy", "discrepancy"], ["other", "all"], ["one", "two"], [False, True]
)
ADVERSARIAL = [
    entry for _, entry in ENTRIES if entry != {"kind": "cross_entropy", "adversarial": False}
] + [
    {
        "kind": "interpretability_aware",
        "inner_loss": inner_loss,
        "softmax_over": softmax_over,
        "class_set": class_set,
        "half_factors": half_factors,
        "adversarial": True,
    }
    for inner_loss, softmax_over, class_set, half_factors in CHOICES
]


@pytest.mark.parametrize("entry", ADVERSARIAL, ids=str)
def test_the_inner_gradient_is_that_of_autograd(entry: dict[str, Any]) -> None:
    matrix, images, perturbed = (tensor.float() for tensor in tiny_batch())
    with torch.no_grad():  # as in training
        inner = objective(entry, TanhClassifier(matrix), images, torch.from_numpy(LABELS))
    expected = objective_gradient(inner.get_inner_loss(), perturbed)
    for _ in range(2):  # the second call uses what the first has computed
        gradient = inner.inner_gradient(perturbed)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
