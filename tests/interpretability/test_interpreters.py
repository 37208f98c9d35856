"""Interpreters against captum, pytorch-grad-cam and plain formulas; their gradients."""

# captum and grad-cam import torchvision, so this comes first.
import irpipe.datasets._torchvision  # noqa: F401  # isort: skip
from typing import Any, get_args

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from random_networks import MNIST, MODEL_SHAPES, random_images, random_network
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe.interpretability.interpreters import interpret
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.option_types import Interpreter, InterpreterVariant

CLASSES = torch.tensor([[3, 0], [7, 7]])  # two classes for each of two images
CLASS_INTERPRETERS: tuple[Interpreter, ...] = ("cam", "gradcam", "gradcampp", "ig")
VARIANTS: tuple[InterpreterVariant, ...] = ("released", "original")
KINDS = [(kind, variant) for kind in CLASS_INTERPRETERS for variant in VARIANTS]


class LayeredNetwork(nn.Module):
    """A network as its layers. The module `layers` gives the feature maps, for libraries' hooks."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.layers = nn.Sequential(network.backbone, network.last_conv or nn.Identity())
        self.head = network.head

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3)) @ self.head.T


def double_network(model: str, shape: tuple[int, int, int], head_scale: float = 1.0) -> Network:
    network = random_network(model, shape, torch.float64)
    network.head.data *= head_scale
    return network.requires_grad_(False)


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_cam_is_head_times_features_and_its_mean_form_is_complete(
    model: str, shape: tuple[int, int, int]
) -> None:
    network = double_network(model, shape)
    images = random_images(shape).double()
    features = network.features(images).numpy()
    head = network.head.numpy()
    np.testing.assert_allclose(interpret(network, images, "repr"), features, atol=1e-12)
    maps = np.einsum("ck,nkhw->nchw", head, features)
    np.testing.assert_allclose(interpret(network, images, "cam"), maps, atol=1e-10)
    positive_maps = np.einsum("ck,nkhw->nchw", head * (head > 0), features)
    np.testing.assert_allclose(interpret(network, images, "gradcampp"), positive_maps, atol=1e-10)
    mean = interpret(network, images, "cam", variant="original")
    logits = LayeredNetwork(network)(images)
    np.testing.assert_allclose(mean.sum(dim=(2, 3)), logits, atol=1e-10)
    assert mean.abs().max() > 1e-3


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_gradcam_equals_captum(model: str, shape: tuple[int, int, int]) -> None:
    network = double_network(model, shape)
    images = random_images(shape).double()
    layered = LayeredNetwork(network).requires_grad_(True)
    grad_cam = captum.attr.LayerGradCam(layered, layered.layers)
    for variant in VARIANTS:
        has_relu = variant == "original"
        maps = interpret(network, images, "gradcam", CLASSES, variant=variant).detach()
        for k, target in enumerate(CLASSES.T):
            expected = grad_cam.attribute(images, target, relu_attributions=has_relu)
            np.testing.assert_allclose(maps[:, k], expected[:, 0].detach(), atol=1e-12)
        assert bool((maps < 0).any()) != has_relu


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
@pytest.mark.parametrize(
    ("kind", "library"),
    [("gradcam", pytorch_grad_cam.GradCAM), ("gradcampp", pytorch_grad_cam.GradCAMPlusPlus)],
)
def test_original_variants_equal_pytorch_grad_cam(
    model: str, shape: tuple[int, int, int], kind: Interpreter, library: Any
) -> None:
    # The library adds a constant 1e-6 to a denominator. Next to large gradients it vanishes.
    network = double_network(model, shape, head_scale=3e5)
    images = random_images(shape).double()
    layered = LayeredNetwork(network).requires_grad_(True)
    maps = interpret(network, images, kind, CLASSES, variant="original").detach()
    for k, classes in enumerate(CLASSES.T.tolist()):
        targets = [ClassifierOutputTarget(c) for c in classes]
        cam = library(layered, [layered.layers])
        cam(images, targets)
        store = cam.activations_and_grads
        arrays = store.activations[0].detach().numpy(), store.gradients[0].detach().numpy()
        expected = np.maximum(cam.get_cam_image(images, layered.layers, targets, *arrays), 0)
        np.testing.assert_allclose(maps[:, k], expected, rtol=1e-5, atol=1e-5 * expected.max())
        assert expected.max() > 1e-3
        store.release()


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_networks_with_softplus_have_it_everywhere_and_share_weights(
    model: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = double_network(model, shape)
    images = random_images(shape).double()
    with_relu = network(images)
    softplus_network = network.with_softplus
    folded = FoldedNetwork(network, shape)
    with_softplus = softplus_network(images), folded.with_softplus(images)
    network.head.data *= 2  # the folded network has its own copy
    assert all(
        weight is original
        for weight, original in zip(
            softplus_network.parameters(), network.parameters(), strict=True
        )
    )
    assert torch.equal(network(images), 2 * with_relu)  # the network itself keeps its ReLUs
    network.head.data /= 2
    monkeypatch.setattr(F, "relu", lambda hidden, inplace=False: F.softplus(hidden))
    for logits in with_softplus:
        torch.testing.assert_close(logits, network(images), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(with_softplus[0], with_relu, atol=1e-3)


@pytest.mark.parametrize(("kind", "variant"), KINDS)
def test_classes_pick_maps_and_folding_changes_nothing(
    kind: Interpreter, variant: InterpreterVariant
) -> None:
    network = double_network("pool", MNIST)
    images = random_images(MNIST).double()
    all_maps = interpret(network, images, kind, variant=variant, ig_steps=5)
    assert all_maps.shape == (2, 10, *(MNIST if kind == "ig" else (7, 7)))
    for either in (network, FoldedNetwork(network, MNIST)):
        maps = interpret(either, images, kind, CLASSES, variant=variant, ig_steps=5)
        for n, k in np.ndindex(2, 2):
            expected = all_maps[n, CLASSES[n, k]]
            torch.testing.assert_close(maps[n, k], expected, rtol=0, atol=1e-12)
    assert {*CLASS_INTERPRETERS, "repr"} == set(get_args(Interpreter))


# The gradients of a ReLU network jump, so its integrated gradients have no derivative.
@pytest.mark.parametrize(
    ("kind", "variant"), [pair for pair in KINDS if pair != ("ig", "original")]
)
def test_gradients_equal_finite_differences(kind: Interpreter, variant: InterpreterVariant) -> None:
    folded = FoldedNetwork(double_network("small", MNIST), MNIST)
    images = random_images(MNIST).double()
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    shape = MNIST if kind == "ig" else (7, 7)
    weights = torch.randn(2, 2, *shape, generator=generator, dtype=torch.float64)

    def total(points: Tensor) -> Tensor:
        maps = interpret(folded, points, kind, CLASSES, variant=variant, ig_steps=7)
        return (weights * maps).sum()

    variable = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(variable), variable)
    step = 1e-6
    slope = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    assert abs(slope) > 1e-2
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5)
