"""Gabor's kernels, noise and fields: against loops written from U.1, by hand, by gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F
from unforeseen_batches import uniform

from irpipe.attacks import gabor

sizes = st.integers(1, 40)


def kernel_by_loop(n_sides: int, sigma: float, frequency: float, theta: float) -> np.ndarray:
    """A kernel of U.1, point by point."""
    kernel = np.zeros((23, 23))
    for row, column, i in np.ndindex(23, 23, n_sides):
        y = -0.5 + row / 22
        x = -0.5 + column / 22
        t = theta + math.pi * i / n_sides
        a = x * math.cos(t) + y * math.sin(t)
        b = -x * math.sin(t) + y * math.cos(t)
        envelope = math.exp(-(a * a + b * b) / (2 * (sigma + 0.001) ** 2))
        kernel[row, column] += envelope * math.cos(2 * math.pi * frequency * a)
    return kernel


@pytest.fixture(scope="module")
def kernels() -> Tensor:
    """Three kernels that are checked against U.1."""
    parameters = torch.tensor(
        [[1, 0.2, 3.5, 0.0], [4, 0.35, 5.0, 1.1], [10, 0.1, 3.0, 3.0]], dtype=torch.float64
    )
    kernels = gabor.gabor_kernels(*parameters.T)
    for kernel, (n_sides, *wave) in zip(kernels, parameters.tolist(), strict=True):
        np.testing.assert_allclose(kernel, kernel_by_loop(int(n_sides), *wave), atol=1e-12)
        assert kernel[11, 11].item() == pytest.approx(n_sides)  # all waves have their crest there
        torch.testing.assert_close(kernel, kernel.flip(0, 1))  # so that convolution is correlation
    return kernels


def test_a_kernel_of_one_direction_is_a_product(kernels: Tensor) -> None:
    x = torch.linspace(-0.5, 0.5, 23, dtype=torch.float64)
    gaussian = torch.exp(-(x**2) / (2 * 0.201**2))
    wave = torch.cos(2 * math.pi * 3.5 * x)
    torch.testing.assert_close(kernels[0], torch.outer(gaussian, gaussian * wave))
    parameters = torch.tensor([[1], [0.2], [3.5], [math.pi / 2]], dtype=torch.float64)
    rotated = gabor.gabor_kernels(*parameters)[0]
    torch.testing.assert_close(rotated, kernels[0].T)


@pytest.mark.parametrize("shape", [(32, 32), (28, 28), (5, 40)])
def test_noise_is_the_sign_of_the_filtered_field(shape: tuple[int, int], kernels: Tensor) -> None:
    field = uniform(3, *shape, low=-1)
    response = gabor.filter_field(field, gabor.kernel_spectrum(kernels, *shape))
    expected = F.conv2d(field[None], kernels[:, None], padding=11, groups=3)[0]
    torch.testing.assert_close(response, expected)
    noise = gabor.binarised_noise(response)
    above_mean = (response - response.mean(dim=(1, 2), keepdim=True)).flatten(1)
    is_far = above_mean.abs() > 0.1 * above_mean.abs().amax(dim=1, keepdim=True)
    assert ((noise.flatten(1) > 0.5) == (above_mean > 0))[is_far].all()
    for image in noise:
        assert (image.min(), image.max()) == (0, 1)
    for factor in (0.01, 0.5):
        torch.testing.assert_close(gabor.binarised_noise(factor * response), noise)
    torch.testing.assert_close(gabor.binarised_noise(-response), 1 - noise)
    assert gabor.binarised_noise(torch.zeros(1, 4, 4)).isnan().all()


def test_the_gradient_of_noise_takes_gain_and_range_for_constants(kernels: Tensor) -> None:
    field = uniform(3, 12, 12, low=-1).requires_grad_()
    weights = torch.randn(3, 12, 12).double()
    spectrum = gabor.kernel_spectrum(kernels, 12, 12)
    response = gabor.filter_field(field, spectrum).detach()
    mean = response.mean(dim=(1, 2), keepdim=True)
    size = (response - mean).abs()
    gain = 1.001 / (0.001 + size / size.amax(dim=(1, 2), keepdim=True))
    pushed = mean + (response - mean) * gain
    span = pushed.amax(dim=(1, 2), keepdim=True) - pushed.amin(dim=(1, 2), keepdim=True)
    slope = gain / span
    noise = gabor.binarised_noise(gabor.filter_field(field, spectrum))
    (gradient,) = torch.autograd.grad((weights * noise).sum(), field)
    weighted = (weights * slope)[None]
    expected = F.conv_transpose2d(weighted, kernels[:, None], padding=11, groups=3)[0]
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.gradcheck(
        lambda f: slope * gabor.filter_field(f, spectrum), field, fast_mode=True
    )


@settings(max_examples=20, deadline=None)
@given(n_images=st.integers(1, 5), height=sizes, width=sizes, seed=st.integers(0, 99))
def test_one_entry_in_14_of_a_sparse_field_is_not_zero(
    n_images: int, height: int, width: int, seed: int
) -> None:
    n_sides, fields = gabor.draw_sides_and_fields(RandomState(seed), n_images, height, width)
    assert fields.shape == (n_images, height, width)
    assert np.count_nonzero(fields) == round(n_images * height * width / 14)
    assert np.abs(fields).max() <= 1
    assert n_sides.shape == (n_images,)
    assert 1 <= n_sides.min() <= n_sides.max() <= 10
