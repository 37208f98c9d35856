"""The three networks against an independent numpy computation with TensorFlow's SAME padding (protocol C.1)."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn import functional

from irpipe import models
from irpipe.errors import IrpipeError
from irpipe.models import Folded, Network, build, from_tensors

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
CASES = [("small", MNIST), ("small", CIFAR), ("pool", MNIST), ("wresnet", CIFAR)]


def random_network(model: str, shape: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> Network:
    """Weights scaled as in training and, unlike there, biases: no term may be lost."""
    network, generator = build(model, shape, 10), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in network.parameters():
            fan = weight[0].numel() if weight.ndim > 1 else 25
            weight.copy_(torch.randn(weight.shape, generator=generator) / fan**0.5)
    return network.to(dtype)


def random_images(shape: tuple[int, int, int], count: int = 2) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(8))


# --- the same networks in numpy --------------------------------------------------------------------------


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, as TensorFlow's SAME defines it."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(x: np.ndarray, layer: tuple[np.ndarray, np.ndarray], stride: int = 1) -> np.ndarray:
    weight, bias = layer
    kernel = weight.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), same(x.shape[2], kernel, stride), same(x.shape[3], kernel, stride)))
    windows = sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nihwab,oiab->nohw", windows, weight, optimize=True) + bias[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def blocks(x: np.ndarray) -> np.ndarray:
    """[N, C, H, W] cut into 2x2 blocks, their pixels on the last axis."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


def numpy_features(model: str, network: Network, images: np.ndarray) -> np.ndarray:
    values = [value.detach().double().numpy() for key, value in network.state_dict().items() if key != "head"]
    layers: Iterator[tuple[np.ndarray, np.ndarray]] = iter(zip(values[::2], values[1::2], strict=True))
    x = images
    if model == "small":
        x = convolve(relu(convolve(relu(convolve(x, next(layers), 2)), next(layers), 2)), next(layers))
    elif model == "pool":
        x = blocks(convolve(x, next(layers))).max(axis=-1)
        x = blocks(convolve(relu(x), next(layers))).max(axis=-1)
    else:
        x = convolve(x, next(layers))
        for number in range(15):
            stride = 2 if number in (5, 10) else 1
            change = convolve(relu(convolve(relu(x), next(layers), stride)), next(layers))
            if stride == 2:
                x, extra = blocks(x).mean(axis=-1), x.shape[1] // 2
                x = np.pad(x, ((0, 0), (extra, extra), (0, 0), (0, 0)))
            x = x + change
    assert next(layers, None) is None
    return x


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_network_equals_numpy(model: str, shape: tuple[int, int, int]) -> None:
    network, images = random_network(model, shape, torch.float64), random_images(shape).double()
    features, head = numpy_features(model, network, images.numpy()), network.head.detach().numpy()
    with torch.no_grad():
        found = [network.features(images), network.maps(images), network(images)]
    maps = np.einsum("ck,nkhw->nchw", head, features)
    for ours, theirs in zip(found, [features, maps, features.mean(axis=(2, 3)) @ head.T], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-10)
    assert features.std() > 0.01  # so there was something to compare
    assert features.min() < -0.01  # not rectified, C.5 I11


def test_padding_of_stride_2_is_as_the_protocol_says() -> None:
    assert [same(28, 4, 2), same(14, 4, 2), same(7, 7, 1), same(28, 5, 1)] == [(1, 1), (1, 1), (3, 3), (2, 2)]
    assert [same(32, 3, 2), same(16, 3, 2), same(32, 3, 1)] == [(0, 1), (0, 1), (1, 1)]


# --- sizes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shape", "size"),
    [("small", MNIST, 7), ("pool", MNIST, 7), ("small", CIFAR, 8), ("wresnet", CIFAR, 8), ("wresnet", (3, 64, 64), 16)],
)
def test_size_of_maps(model: str, shape: tuple[int, int, int], size: int) -> None:
    network = random_network(model, shape)
    with torch.no_grad():
        channels = {"small": 100, "pool": 64, "wresnet": 64}[model]
        assert network.features(random_images(shape)).shape == (2, channels, size, size)
        assert network.maps(random_images(shape)).shape == (2, 10, size, size)
        assert network(random_images(shape)).shape == (2, 10)


def residual(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs + 9 * outputs * outputs + outputs


@pytest.mark.parametrize(
    ("model", "shape", "classes", "count"),
    [
        # C.1: convolutions with biases, the head without
        ("small", MNIST, 10, 166_396),
        ("small", CIFAR, 10, 166_396 + 2 * 4 * 4 * 16),
        ("pool", MNIST, 10, (25 + 1) * 32 + (25 * 32 + 1) * 64 + 640),
        ("wresnet", CIFAR, 10, 463_008),
        ("wresnet", (3, 224, 224), 9, 463_008 - 64),
    ],
)
def test_number_of_parameters(model: str, shape: tuple[int, int, int], classes: int, count: int) -> None:
    assert sum(weight.numel() for weight in build(model, shape, classes).parameters()) == count


def test_wresnet_has_fifteen_blocks() -> None:
    stem, head = 27 * 16 + 16, 640
    sixteen, thirty_two, sixty_four = residual(16, 16), residual(32, 32), residual(64, 64)
    by_hand = stem + 5 * sixteen + residual(16, 32) + 4 * thirty_two + residual(32, 64) + 4 * sixty_four + head
    assert by_hand == sum(weight.numel() for weight in build("wresnet", CIFAR, 10).parameters())
    convolutions = [module for module in build("wresnet", CIFAR, 10).modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 31


# --- folded --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_folded_equals_the_network_and_its_gradients(model: str, shape: tuple[int, int, int]) -> None:
    network, images = random_network(model, shape), random_images(shape, 3)
    with torch.no_grad():  # as in training's inner loop
        folded = Folded(network, shape)
    plain, moved = images.clone().requires_grad_(), images.clone().requires_grad_()
    logits, folded_logits = network(plain), folded(moved)
    torch.testing.assert_close(folded_logits, logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(folded.maps(images), network.maps(images), rtol=0, atol=1e-5)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9))
    (expected,) = torch.autograd.grad((logits * direction).sum(), plain)
    (found,) = torch.autograd.grad((folded_logits * direction).sum(), moved)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_folding_leaves_the_network_alone_and_carries_no_graph() -> None:
    network = random_network("small", MNIST)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = Folded(network, MNIST)
    assert not any(part.requires_grad for part in (folded.matrix, folded.bias, folded.convolutions[True][0]))
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# --- given weights -------------------------------------------------------------------------------------


def test_from_tensors_keeps_every_weight() -> None:
    network, images = random_network("pool", MNIST), random_images(MNIST)
    copy = from_tensors("pool", MNIST, 10, network.state_dict(), "here")
    assert {name for name, value in copy.state_dict().items() if torch.equal(value, network.state_dict()[name])} == {
        "head",
        *(f"trunk.{number}.{part}" for number in (0, 3) for part in ("weight", "bias")),
    }
    assert torch.equal(copy(images), network(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": torch.zeros(10, 99)}, r"head is \(10, 99\); model small wants \(10, 100\)"),
        ({"head": None}, r"head is None; model small wants \(10, 100\)"),
        ({"extra": torch.zeros(3)}, r"extra is \(3,\); model small wants None"),
        ({"last.weight": torch.zeros(7, 7, 32, 100)}, r"last.weight is \(7, 7, 32, 100\); .* \(100, 32, 7, 7\)"),
    ],
)
def test_from_tensors_names_what_does_not_fit(change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {**random_network("small", MNIST).state_dict(), **change}
    given = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(IrpipeError, match=rf"^here: {message}$"):
        from_tensors("small", MNIST, 10, given, "here")


def test_from_tensors_refuses_another_model() -> None:
    with pytest.raises(IrpipeError, match=r"^here: head is \(10, 64\); model small wants \(10, 100\)$"):
        from_tensors("small", MNIST, 10, random_network("pool", MNIST).state_dict(), "here")


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (5, 1, 2), (3, 2, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_convolution_has_the_librarys_values_and_derivatives(
    kernel: int, stride: int, padding: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = (2, channels, 9, 8), (4, channels, kernel, kernel), (4,)
    given = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]

    def ours(*parts: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = models._Convolve.apply(*parts, (stride, stride), (padding, padding))  # type: ignore[no-untyped-call]
        return out

    expected = functional.conv2d(*given, stride, padding)
    torch.testing.assert_close(ours(*given), expected)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((weights * ours(*given)).sum(), given),
        torch.autograd.grad((weights * expected).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    assert torch.autograd.gradgradcheck(ours, given)


def test_loops_over_images_work_out_no_gradient_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = random_network("small", MNIST), random_images(MNIST).requires_grad_()
    wanted: list[tuple[bool, ...]] = []
    backward = models._Convolve.backward
    monkeypatch.setattr(
        models._Convolve,
        "backward",
        lambda ctx, *gradients: wanted.append(ctx.needs_input_grad[:3]) or backward(ctx, *gradients),
    )
    for called in (network, Folded(network, MNIST)):
        called(images).sum().backward()
    assert wanted == [(True, True, True), (True, False, False)]
