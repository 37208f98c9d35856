"""Interpreters against captum, pytorch-grad-cam and plain formulas; completeness; gradients by finite differences."""

import irpipe._torchvision  # isort: skip  # before captum and grad-cam, which import torchvision
from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from test_models import CASES, CIFAR, MNIST, random_images, random_network
from torch import Tensor, nn
from torch.nn import functional as F

import irpipe.maps.interpret
from irpipe.maps.interpret import INTERPRETERS, interpret
from irpipe.models import Folded, Network
from irpipe.quantities import Interpreter, Variant

WANTED = torch.tensor([[3, 0], [7, 7]])
KINDS: list[tuple[Interpreter, Variant]] = [
    (kind, variant) for kind in ("cam", "gradcam", "gradcampp", "ig") for variant in ("code", "literature")
]


class Plain(nn.Module):
    """The network as its layers, with one module that gives the feature maps, for libraries that hook into one."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.layers = nn.Sequential(network.trunk, network.last or nn.Identity())
        self.head = network.head

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3)) @ self.head.T


def double(model: str, shape: tuple[int, int, int], scale: float = 1.0) -> Network:
    network = random_network(model, shape, torch.float64)
    network.head.data *= scale
    return network.requires_grad_(False)


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_cam_is_head_times_features_and_its_mean_form_is_complete(model: str, shape: tuple[int, int, int]) -> None:
    network, images = double(model, shape), random_images(shape).double()
    features, head = network.features(images).numpy(), network.head.numpy()
    np.testing.assert_allclose(interpret(network, images, "repr"), features, atol=1e-12)
    maps = np.einsum("ck,nkhw->nchw", head, features)
    np.testing.assert_allclose(interpret(network, images, "cam"), maps, atol=1e-10)
    np.testing.assert_allclose(
        interpret(network, images, "gradcampp"), np.einsum("ck,nkhw->nchw", head * (head > 0), features), atol=1e-10
    )
    mean = interpret(network, images, "cam", variant="literature")
    np.testing.assert_allclose(mean.sum(dim=(2, 3)), Plain(network)(images), atol=1e-10)
    assert mean.abs().max() > 1e-3


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_gradcam_equals_captum(model: str, shape: tuple[int, int, int]) -> None:
    network, images = double(model, shape), random_images(shape).double()
    plain = Plain(network).requires_grad_(True)
    theirs = captum.attr.LayerGradCam(plain, plain.layers)
    for variant, rectified in (("code", False), ("literature", True)):
        found = interpret(network, images, "gradcam", WANTED, variant=variant).detach()  # type: ignore[arg-type]
        for k, target in enumerate(WANTED.T):
            expected = theirs.attribute(images, target, relu_attributions=rectified)
            np.testing.assert_allclose(found[:, k], expected[:, 0].detach(), atol=1e-12)
        assert bool((found < 0).any()) != rectified


@pytest.mark.parametrize(("model", "shape"), CASES)
@pytest.mark.parametrize(
    ("kind", "library"), [("gradcam", pytorch_grad_cam.GradCAM), ("gradcampp", pytorch_grad_cam.GradCAMPlusPlus)]
)
def test_literature_equals_pytorch_grad_cam(
    model: str, shape: tuple[int, int, int], kind: Interpreter, library: Any
) -> None:
    network, images = double(model, shape, scale=3e5), random_images(shape).double()  # hides its constant 1e-6
    plain = Plain(network).requires_grad_(True)
    found = interpret(network, images, kind, WANTED, variant="literature").detach()
    for k, target in enumerate(WANTED.T.tolist()):
        targets = [ClassifierOutputTarget(c) for c in target]
        theirs = library(plain, [plain.layers])
        theirs(images, targets)
        store = theirs.activations_and_grads
        arrays = store.activations[0].detach().numpy(), store.gradients[0].detach().numpy()
        expected = np.maximum(theirs.get_cam_image(images, plain.layers, targets, *arrays), 0)
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-5, atol=1e-5 * expected.max())
        assert expected.max() > 1e-3
        store.release()


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_softened_networks_have_softplus_everywhere_and_share_weights(
    model: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images = double(model, shape), random_images(shape).double()
    rectified, soft = network(images), network.softened
    folded = Folded(network, shape)
    found = soft(images), folded.softened(images)
    network.head.data *= 2  # which is not folded
    assert all(ours is theirs for ours, theirs in zip(soft.parameters(), network.parameters(), strict=True))
    assert torch.equal(network(images), 2 * rectified)  # still rectified
    network.head.data /= 2
    monkeypatch.setattr(F, "relu", lambda hidden, inplace=False: F.softplus(hidden))
    for ours in found:
        torch.testing.assert_close(ours, network(images), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found[0], rectified, atol=1e-3)


@pytest.mark.parametrize("shape", [MNIST, CIFAR])
@pytest.mark.parametrize("variant", ["code", "literature"])
def test_integrated_gradients_equal_captum(shape: tuple[int, int, int], variant: Variant) -> None:
    network, images = double("small", shape), random_images(shape).double()
    first, _, second, _ = network.trunk
    act = nn.Softplus() if variant == "code" else nn.ReLU()
    by_hand = nn.Sequential(first, act, second, act, network.last)
    theirs = captum.attr.IntegratedGradients(lambda x: by_hand(x).mean(dim=(2, 3)) @ network.head.T)
    found = interpret(network, images, "ig", WANTED, variant=variant, points=20)
    assert found.shape == (2, 2, *shape)
    for k, target in enumerate(WANTED.T):
        expected = theirs.attribute(images, target=target, n_steps=20, method="riemann_right")
        np.testing.assert_allclose(found[:, k], expected, atol=1e-12)
    assert found.abs().max() > 1e-3


def test_integrated_gradients_of_relu_are_complete_and_those_of_softplus_are_not() -> None:
    network, images = double("small", MNIST), random_images(MNIST).double()
    change = (network(images) - network(torch.zeros_like(images))).gather(1, WANTED)

    def miss(variant: Variant, points: int) -> float:
        total = interpret(network, images, "ig", WANTED, variant=variant, points=points).sum(dim=(2, 3, 4))
        return float((total - change).abs().max() / change.abs().max())

    misses = [miss("literature", points) for points in (5, 50, 500)]
    assert misses[0] > 3 * misses[1] > 9 * misses[2]  # a Riemann sum's error
    assert misses[2] < 0.01
    assert miss("code", 500) > 0.05


@pytest.mark.parametrize(("kind", "variant"), KINDS)
def test_classes_pick_maps_and_folding_changes_nothing(kind: Interpreter, variant: Variant) -> None:
    network, images = double("pool", MNIST), random_images(MNIST).double()
    everything = interpret(network, images, kind, variant=variant, points=5)
    assert everything.shape == (2, 10, *(MNIST if kind == "ig" else (7, 7)))
    for given in (network, Folded(network, MNIST)):
        found = interpret(given, images, kind, WANTED, variant=variant, points=5)
        for n, k in np.ndindex(2, 2):
            torch.testing.assert_close(found[n, k], everything[n, WANTED[n, k]], rtol=0, atol=1e-12)
    assert {kind for kind, _ in KINDS} | {"repr"} == set(INTERPRETERS)


@pytest.mark.parametrize(("kind", "variant"), [pair for pair in KINDS if pair != ("ig", "literature")])
def test_gradients_equal_finite_differences(kind: Interpreter, variant: Variant) -> None:
    """But for integrated gradients of ReLU, whose slopes jump: nothing to differentiate."""
    folded, images = Folded(double("small", MNIST), MNIST), random_images(MNIST).double()
    generator = torch.Generator().manual_seed(3)
    direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 2, *(MNIST if kind == "ig" else (7, 7)), generator=generator, dtype=torch.float64)

    def total(images: Tensor) -> Tensor:
        return (weights * interpret(folded, images, kind, WANTED, variant=variant, points=7)).sum()

    moved = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(moved), moved)
    step = 1e-6
    slope = (total(images + step * direction) - total(images - step * direction)) / (2 * step)
    assert abs(slope) > 1e-2
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-5)


def test_chunks_bound_what_is_held_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, images = Folded(double("small", MNIST), MNIST), random_images(MNIST).double()
    sizes: list[int] = []

    def run() -> list[Tensor]:
        moved = images.clone().requires_grad_()
        maps = interpret(folded, moved, "ig", WANTED, points=10)
        return [maps.detach(), *torch.autograd.grad(maps.abs().sum(), moved)]

    whole = run()
    monkeypatch.setattr(irpipe.maps.interpret, "CHUNK", 3 * images.numel() + 1)
    folded.softened.trunk.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    for ours, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    assert set(sizes) == {6, 2}  # points of two images, the last one alone
