"""Snow's kernels, planes and projection: against loops written from U.2, by hand, by gradients."""

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

from irpipe.attacks import snow

# U.2: sums of the kernels of each batch of 40, seed 99, after the draws of sample and targets.
KERNEL_SUMS = {
    0: [52.051, 20.2985, 17.5077, 39.4643, 32.7229, 15.4853, 36.9901],
    1: [14.9529, 20.6731, 21.0443, 20.7354, 32.724, 45.8869, 15.4853],
    2: [11.9497, 20.7542, 26.3745, 14.9529, 15.364, 20.008, 20.4272],
    3: [14.9529, 20.9977, 20.8656, 11.5185, 8.5355, 21.2874, 18.6837],
    4: [21.1535, 8.5355, 18.379, 33.7909, 39.0693, 52.6662, 17.957],
}


def generator_after_targets() -> RandomState:
    rng = RandomState(99)
    rng.permutation(10_000)
    draws = rng.randint(9, size=200).tolist()
    assert draws[:10] == [6, 1, 4, 1, 6, 7, 1, 2, 0, 2]  # U.0 lists them
    return rng


def test_kernels_are_those_of_the_released_code() -> None:
    rng = generator_after_targets()
    for batch, sums in KERNEL_SUMS.items():
        kernels = snow.draw_kernels(rng)
        assert kernels.shape == (7, 13, 13)
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), sums, rtol=0, atol=6e-5)
        np.testing.assert_allclose(kernels, kernels[:, ::-1, ::-1], atol=1e-15)
        assert kernels.min() >= 0
        assert kernels.max() <= 1 + 1e-12
        is_mirrored = kernels[:, :6, 7:].sum() > kernels[:, :6, :6].sum()
        assert is_mirrored == (batch == 3)


def test_lines_by_hand() -> None:
    diagonal = snow.draw_line(2, 2, 1)
    edge = math.sqrt(2) / 4  # w' / 2
    expected = [[1, edge, 0], [edge, 1, edge], [0, edge, 1]]
    np.testing.assert_allclose(diagonal[6:9, 6:9], expected, atol=1e-15)
    assert np.count_nonzero(diagonal) == 7 + 1
    # If both directions are equally long, the line runs along the columns.
    assert (diagonal[9, 8], diagonal[8, 9]) == (pytest.approx(edge), 0)
    steep = snow.draw_line(6, 3, 3)
    np.testing.assert_allclose(steep, snow.draw_line(3, 6, 3).T)
    half_width = 3 * math.sqrt(1.5) / 4
    soft = np.clip(1 + half_width - 1.5, 0, 1)
    assert steep[7, 6:9].tolist() == pytest.approx([1, 1, soft])


def random_kernels(n_images: int, seed: int = 1) -> Tensor:
    generators = [RandomState(seed + image) for image in range(n_images)]
    return torch.from_numpy(np.stack([snow.draw_kernels(rng) for rng in generators]))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (30, 21)])
def test_snow_is_the_sum_of_seven_sparse_planes(height: int, width: int) -> None:
    kernels = random_kernels(2)
    placed = snow.place_kernels(kernels)
    flakes = uniform(2, 7, -(-height // 4), -(-width // 4), low=-0.1)
    expected = torch.zeros(2, 1, height, width, dtype=torch.float64)
    sites = set()
    for plane in range(7):
        sparse = torch.zeros(2, 1, height + 8, width + 8, dtype=torch.float64)
        y, x = (0, plane) if plane < 4 else (plane - 3, 0)
        for row, column in np.ndindex(flakes.shape[2:]):
            sparse[:, 0, 4 * row + y, 4 * column + x] = flakes[:, plane, row, column] ** 4
            sites.add((4 * row + y, 4 * column + x))
        correlated = [
            F.conv2d(image[None], kernel[plane][None, None], padding=6)
            for image, kernel in zip(sparse, kernels, strict=True)
        ]
        expected += torch.cat(correlated)[:, :, :height, :width]
    assert len(sites) == flakes[0].numel()  # no two planes have a site in common
    layer = snow.snow_layer(flakes, placed, height, width)
    if height % 4 == width % 4 == 0:
        torch.testing.assert_close(layer, expected)
    # The released code has no flakes beyond the edge, so only the inside is equal.
    inside = (..., slice(0, height - 9), slice(0, width - 9))
    torch.testing.assert_close(layer[inside], expected[inside])
    assert layer.min() >= 0
    assert snow.snow_layer(torch.zeros_like(flakes), placed, height, width).abs().max() == 0


def test_the_gradient_of_snow() -> None:
    placed = snow.place_kernels(random_kernels(2))
    flakes = uniform(2, 7, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: snow.snow_layer(z, placed, 8, 12), flakes)


def test_whitening_by_hand() -> None:
    images = uniform(2, 3, 4, 4)
    whitened = snow.whiten(images)
    red, green, blue = images[0, :, 1, 2].tolist()
    light = 1.5 * (0.2126 * red + 0.7152 * green + 0.0722 * blue) + 0.5
    expected = [0.75 * value + 0.25 * max(value, light) for value in (red, green, blue)]
    assert whitened[0, :, 1, 2].tolist() == pytest.approx(expected)
    assert (whitened >= images).all()
    grey = uniform(2, 1, 4, 4)
    expected_grey = 0.75 * grey + 0.25 * torch.maximum(grey, 1.5 * grey + 0.5)
    torch.testing.assert_close(snow.whiten(grey), expected_grey)
    white = snow.whiten(torch.ones(1, 3, 1, 1)).clamp(0, 1)
    assert white.flatten().tolist() == [1] * 3


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    reach=st.floats(0.1, 3),
    seed=st.integers(0, 99),
)
def test_projection_bounds_the_mean_of_every_block(
    height: int, width: int, reach: float, seed: int
) -> None:
    flakes = uniform(2, 7, height, width, low=-reach, high=reach, seed=seed)
    projected = snow.project(flakes)
    assert projected.min() > 0
    assert projected.max() <= 1
    for row, column in np.ndindex(-(-height // 8), -(-width // 8)):
        block = (slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
        for image, plane in np.ndindex(2, 7):
            clipped = flakes[image, plane][block].clamp(1e-9, 1)
            expected = clipped * min(1, 0.2 / clipped.mean().item())
            torch.testing.assert_close(projected[image, plane][block], expected)
