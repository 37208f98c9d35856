"""The three networks equal an independent computation in numpy with TensorFlow's SAME padding."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from random_networks import CIFAR, MNIST, MODEL_SHAPES, random_images, random_network
from torch import nn

from irpipe.errors import IrpipeError
from irpipe.networks.architectures import build, build_with_weights
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network

# --- the same networks in numpy ---


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after, as TensorFlow's SAME defines it."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolve(x: np.ndarray, layer: tuple[np.ndarray, np.ndarray], stride: int = 1) -> np.ndarray:
    weight, bias = layer
    kernel = weight.shape[2]
    rows = same_padding(x.shape[2], kernel, stride)
    columns = same_padding(x.shape[3], kernel, stride)
    x = np.pad(x, ((0, 0), (0, 0), rows, columns))
    windows = sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nihwab,oiab->nohw", windows, weight, optimize=True) + bias[:, None, None]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def blocks(x: np.ndarray) -> np.ndarray:
    """Cut `[N, C, H, W]` into 2x2 blocks, with their pixels on the last axis."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // 2, 2, w // 2, 2)
    return x.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


def numpy_layers(network: Network) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the weight and bias of each convolution."""
    state = network.state_dict()
    values = [value.detach().double().numpy() for key, value in state.items() if key != "head"]
    yield from zip(values[::2], values[1::2], strict=True)


def numpy_features(model: str, network: Network, images: np.ndarray) -> np.ndarray:
    layers = numpy_layers(network)
    x = images
    if model == "small":
        x = relu(convolve(x, next(layers), 2))
        x = relu(convolve(x, next(layers), 2))
        x = convolve(x, next(layers))
    elif model == "pool":
        x = blocks(convolve(x, next(layers))).max(axis=-1)
        x = blocks(convolve(relu(x), next(layers))).max(axis=-1)
    else:
        x = convolve(x, next(layers))
        for block_index in range(15):
            stride = 2 if block_index in (5, 10) else 1
            residual = convolve(relu(convolve(relu(x), next(layers), stride)), next(layers))
            if stride == 2:
                n_zeros = x.shape[1] // 2
                x = blocks(x).mean(axis=-1)
                x = np.pad(x, ((0, 0), (n_zeros, n_zeros), (0, 0), (0, 0)))
            x = x + residual
    assert next(layers, None) is None
    return x


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_a_network_equals_numpy(model: str, shape: tuple[int, int, int]) -> None:
    network = random_network(model, shape, torch.float64)
    images = random_images(shape).double()
    features = numpy_features(model, network, images.numpy())
    head = network.head.detach().numpy()
    maps = np.einsum("ck,nkhw->nchw", head, features)
    logits = features.mean(axis=(2, 3)) @ head.T
    with torch.no_grad():
        pairs = [
            (network.features(images), features),
            (network.maps(images), maps),
            (network(images), logits),
        ]
    for computed, expected in pairs:
        np.testing.assert_allclose(computed.numpy(), expected, rtol=0, atol=1e-10)
    assert features.std() > 0.01  # So there was something to compare.
    assert features.min() < -0.01  # C.5 I11: the features have no ReLU.


def test_padding_of_stride_2_is_that_of_the_protocol() -> None:
    symmetric = [(28, 4, 2), (14, 4, 2), (7, 7, 1), (28, 5, 1)]
    assert [same_padding(*sizes) for sizes in symmetric] == [(1, 1), (1, 1), (3, 3), (2, 2)]
    of_wresnet = [(32, 3, 2), (16, 3, 2), (32, 3, 1)]
    assert [same_padding(*sizes) for sizes in of_wresnet] == [(0, 1), (0, 1), (1, 1)]


# --- sizes ---


@pytest.mark.parametrize(
    ("model", "shape", "size"),
    [
        ("small", MNIST, 7),
        ("pool", MNIST, 7),
        ("small", CIFAR, 8),
        ("wresnet", CIFAR, 8),
        ("wresnet", (3, 64, 64), 16),
    ],
)
def test_maps_have_the_size_of_the_protocol(
    model: str, shape: tuple[int, int, int], size: int
) -> None:
    network = random_network(model, shape)
    n_features = {"small": 100, "pool": 64, "wresnet": 64}[model]
    with torch.no_grad():
        assert network.features(random_images(shape)).shape == (2, n_features, size, size)
        assert network.maps(random_images(shape)).shape == (2, 10, size, size)
        assert network(random_images(shape)).shape == (2, 10)


def n_weights(network: Network) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("model", "shape", "n_classes", "expected"),
    [
        # C.1: convolutions have biases, the head has none.
        ("small", MNIST, 10, 166_396),
        ("small", CIFAR, 10, 166_396 + 2 * 4 * 4 * 16),
        ("pool", MNIST, 10, (25 + 1) * 32 + (25 * 32 + 1) * 64 + 640),
        ("wresnet", CIFAR, 10, 463_008),
        ("wresnet", (3, 224, 224), 9, 463_008 - 64),
    ],
)
def test_a_network_has_the_published_number_of_parameters(
    model: str, shape: tuple[int, int, int], n_classes: int, expected: int
) -> None:
    assert n_weights(build(model, shape, n_classes)) == expected


def n_block_weights(n_inputs: int, n_outputs: int) -> int:
    return 9 * n_inputs * n_outputs + n_outputs + 9 * n_outputs * n_outputs + n_outputs


def test_wresnet_has_fifteen_blocks() -> None:
    first_conv, head = 27 * 16 + 16, 640
    expected = (
        first_conv
        + 5 * n_block_weights(16, 16)
        + n_block_weights(16, 32)
        + 4 * n_block_weights(32, 32)
        + n_block_weights(32, 64)
        + 4 * n_block_weights(64, 64)
        + head
    )
    network = build("wresnet", CIFAR, 10)
    assert n_weights(network) == expected
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 31


# --- folded networks ---


@pytest.mark.parametrize(("model", "shape"), MODEL_SHAPES)
def test_a_folded_network_has_the_networks_values_and_gradients(
    model: str, shape: tuple[int, int, int]
) -> None:
    network, images = random_network(model, shape), random_images(shape, 3)
    with torch.no_grad():  # As in the inner maximisation of training.
        folded = FoldedNetwork(network, shape)
    leaf, folded_leaf = images.clone().requires_grad_(), images.clone().requires_grad_()
    logits, folded_logits = network(leaf), folded(folded_leaf)
    torch.testing.assert_close(folded_logits, logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(folded.maps(images), network.maps(images), rtol=0, atol=1e-5)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(9))
    (expected,) = torch.autograd.grad((logits * direction).sum(), leaf)
    (gradient,) = torch.autograd.grad((folded_logits * direction).sum(), folded_leaf)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5)


def test_folding_changes_no_weight_and_keeps_no_graph() -> None:
    network = random_network("small", MNIST)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = FoldedNetwork(network, MNIST)
    convolution, _, _ = folded.map_convolutions[True]
    assert not any(part.requires_grad for part in (folded.matrix, folded.bias, convolution))
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# --- networks with given weights ---


def test_build_with_weights_uses_every_weight() -> None:
    network, images = random_network("pool", MNIST), random_images(MNIST)
    weights = network.state_dict()
    copy = build_with_weights("pool", MNIST, 10, weights, "here")
    equal = {name for name, value in copy.state_dict().items() if torch.equal(value, weights[name])}
    assert equal == {
        "head",
        *(f"backbone.{index}.{part}" for index in (0, 3) for part in ("weight", "bias")),
    }
    assert torch.equal(copy(images), network(images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": torch.zeros(10, 99)}, r"head is \(10, 99\); model small wants \(10, 100\)"),
        ({"head": None}, r"head is None; model small wants \(10, 100\)"),
        ({"extra": torch.zeros(3)}, r"extra is \(3,\); model small wants None"),
        (
            {"last_conv.weight": torch.zeros(7, 7, 32, 100)},
            r"last_conv.weight is \(7, 7, 32, 100\); .* \(100, 32, 7, 7\)",
        ),
    ],
)
def test_build_with_weights_names_what_does_not_fit(
    change: dict[str, torch.Tensor | None], message: str
) -> None:
    changed = {**random_network("small", MNIST).state_dict(), **change}
    weights = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(IrpipeError, match=rf"^here: {message}$"):
        build_with_weights("small", MNIST, 10, weights, "here")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("backbone", r"backbone.0.bias is \(32,\); model small wants \(16,\)"),
        ("head", r"head is \(10, 64\); model small wants \(10, 100\)"),
    ],
)
def test_build_with_weights_refuses_the_weights_of_another_model(names: str, message: str) -> None:
    weights = random_network("small", MNIST).state_dict()
    for name, value in random_network("pool", MNIST).state_dict().items():
        if name.startswith(names):
            weights[name] = value
    with pytest.raises(IrpipeError, match=f"^here: {message}$"):
        build_with_weights("small", MNIST, 10, weights, "here")
