"""The first convolution: torch's values and derivatives, and no work for fixed weights."""

import pytest
import torch
from random_networks import MNIST, random_images, random_network
from torch.nn import functional as F

from irpipe.networks import input_conv
from irpipe.networks.fold import fold
from irpipe.networks.folded import FoldedNetwork


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (5, 1, 2), (3, 2, 0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_convolution_has_torchs_values_and_derivatives(
    kernel: int, stride: int, padding: int, channels: int
) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = (2, channels, 9, 8), (4, channels, kernel, kernel), (4,)
    inputs = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]

    def convolution(*tensors: torch.Tensor) -> torch.Tensor:
        apply = input_conv._Conv2dMatmulBackward.apply
        output: torch.Tensor = apply(  # type: ignore[no-untyped-call]
            *tensors, stride, padding
        )
        return output

    expected = F.conv2d(*inputs, stride, padding)
    torch.testing.assert_close(convolution(*inputs), expected)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((weights * convolution(*inputs)).sum(), inputs)
    expected_gradients = torch.autograd.grad((weights * expected).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)
    assert torch.autograd.gradgradcheck(convolution, inputs)


def test_a_folded_network_computes_no_gradient_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, images = random_network("small", MNIST), random_images(MNIST).requires_grad_()
    needed: list[tuple[bool, ...]] = []
    backward = input_conv._Conv2dMatmulBackward.backward
    monkeypatch.setattr(
        input_conv._Conv2dMatmulBackward,
        "backward",
        lambda ctx, *gradients: (
            needed.append(ctx.needs_input_grad[:3]) or backward(ctx, *gradients)
        ),
    )
    for classifier in (network, FoldedNetwork(network, MNIST)):
        classifier(images).sum().backward()
    assert needed == [(True, True, True), (True, False, False)]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((4, 4), 2, 1), ((5, 5), 1, 2), ((3, 4), 2, 0)]
)
def test_patches_are_summed_in_torchs_order(
    kernel: tuple[int, int], stride: int, padding: int
) -> None:
    size = 9, 8
    shape = F.unfold(torch.zeros(2, 3, *size), kernel, padding=padding, stride=stride).shape
    patches = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    expected = F.fold(patches, size, kernel, padding=padding, stride=stride)
    assert torch.equal(fold(patches, size, kernel, padding, stride), expected)
