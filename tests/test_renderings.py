"""Gabor, snow and fog as pictures: against loops written from the specification, by hand and by finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

from irpipe.attacks import fog, gabor, snow

GOLD = {  # specification 2: sums of the 7 kernels of each batch of 40, seed 99, behind the sample and the targets
    0: [52.051, 20.2985, 17.5077, 39.4643, 32.7229, 15.4853, 36.9901],
    1: [14.9529, 20.6731, 21.0443, 20.7354, 32.724, 45.8869, 15.4853],
    2: [11.9497, 20.7542, 26.3745, 14.9529, 15.364, 20.008, 20.4272],
    3: [14.9529, 20.9977, 20.8656, 11.5185, 8.5355, 21.2874, 18.6837],
    4: [21.1535, 8.5355, 18.379, 33.7909, 39.0693, 52.6662, 17.957],
}
sides = st.integers(1, 40)


def uniform(*shape: int, low: float = 0, high: float = 1, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).uniform(low, high, shape))


# --- gabor -----------------------------------------------------------------------------------------------


def kernel(sides: int, sigma: float, waves: float, angle: float) -> np.ndarray:
    """Specification 1, point by point."""
    found = np.zeros((23, 23))
    for row, column, k in np.ndindex(23, 23, sides):
        y, x, t = -0.5 + row / 22, -0.5 + column / 22, angle + math.pi * k / sides
        a, b = x * math.cos(t) + y * math.sin(t), -x * math.sin(t) + y * math.cos(t)
        found[row, column] += math.exp(-(a * a + b * b) / (2 * (sigma + 0.001) ** 2)) * math.cos(
            2 * math.pi * waves * a
        )
    return found


@pytest.fixture(scope="module")
def some_kernels() -> Tensor:
    given = torch.tensor([[1, 0.2, 3.5, 0.0], [4, 0.35, 5.0, 1.1], [10, 0.1, 3.0, 3.0]], dtype=torch.float64)
    found = gabor.kernels(*given.T)
    for ours, (count, *wave) in zip(found, given.tolist(), strict=True):
        np.testing.assert_allclose(ours, kernel(int(count), *wave), atol=1e-12)
        assert ours[11, 11].item() == pytest.approx(count)  # all waves have their crest there
        torch.testing.assert_close(ours, ours.flip(0, 1))  # so that convolution is correlation
    return found


def test_a_kernel_of_one_direction_is_a_product(some_kernels: Tensor) -> None:
    line = torch.linspace(-0.5, 0.5, 23, dtype=torch.float64)
    bell = torch.exp(-(line**2) / (2 * 0.201**2))
    torch.testing.assert_close(some_kernels[0], torch.outer(bell, bell * torch.cos(2 * math.pi * 3.5 * line)))
    turned = gabor.kernels(*torch.tensor([[1], [0.2], [3.5], [math.pi / 2]], dtype=torch.float64))[0]
    torch.testing.assert_close(turned, some_kernels[0].T)


@pytest.mark.parametrize("shape", [(32, 32), (28, 28), (5, 40)])
def test_noise_is_the_sign_of_the_filtered_field(shape: tuple[int, int], some_kernels: Tensor) -> None:
    field = uniform(3, *shape, low=-1)
    response = gabor.filtered(field, gabor.transformed(some_kernels, *shape))
    torch.testing.assert_close(response, F.conv2d(field[None], some_kernels[:, None], padding=11, groups=3)[0])
    noise = gabor.noise(response)
    above = (response - response.mean(dim=(1, 2), keepdim=True)).flatten(1)
    far = above.abs() > 0.1 * above.abs().amax(dim=1, keepdim=True)
    assert ((noise.flatten(1) > 0.5) == (above > 0))[far].all()
    for one in noise:
        assert (one.min(), one.max()) == (0, 1)
    for scale in (0.01, 0.5):
        torch.testing.assert_close(gabor.noise(scale * response), noise)
    torch.testing.assert_close(gabor.noise(-response), 1 - noise)
    assert gabor.noise(torch.zeros(1, 4, 4)).isnan().all()


def test_gradient_of_noise_with_its_constants_frozen(some_kernels: Tensor) -> None:
    field, seen, shape = uniform(3, 12, 12, low=-1).requires_grad_(), torch.randn(3, 12, 12).double(), (12, 12)
    spectrum = gabor.transformed(some_kernels, *shape)
    response = gabor.filtered(field, spectrum).detach()
    mean = response.mean(dim=(1, 2), keepdim=True)
    size = (response - mean).abs()
    gain = 1.001 / (0.001 + size / size.amax(dim=(1, 2), keepdim=True))
    pushed = mean + (response - mean) * gain
    weight = gain / (pushed.amax(dim=(1, 2), keepdim=True) - pushed.amin(dim=(1, 2), keepdim=True))
    (found,) = torch.autograd.grad((seen * gabor.noise(gabor.filtered(field, spectrum))).sum(), field)
    expected = F.conv_transpose2d((seen * weight)[None], some_kernels[:, None], padding=11, groups=3)[0]
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda f: weight * gabor.filtered(f, spectrum), field, fast_mode=True)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 5), height=sides, width=sides, seed=st.integers(0, 99))
def test_a_sparse_field_has_one_entry_in_14(count: int, height: int, width: int, seed: int) -> None:
    number, field = gabor.sparse(RandomState(seed), count, height, width)
    assert field.shape == (count, height, width)
    assert np.count_nonzero(field) == round(count * height * width / 14)
    assert np.abs(field).max() <= 1
    assert number.shape == (count,)
    assert 1 <= number.min() <= number.max() <= 10


# --- snow ------------------------------------------------------------------------------------------------


def behind_targets() -> RandomState:
    rng = RandomState(99)
    rng.permutation(10_000)
    assert rng.randint(9, size=200)[:10].tolist() == [6, 1, 4, 1, 6, 7, 1, 2, 0, 2]  # specification 0
    return rng


def test_kernels_are_the_released_codes() -> None:
    rng = behind_targets()
    for batch, expected in GOLD.items():
        found = snow.kernels(rng)
        assert found.shape == (7, 13, 13)
        np.testing.assert_allclose(found.sum(axis=(1, 2)), expected, rtol=0, atol=6e-5)
        np.testing.assert_allclose(found, found[:, ::-1, ::-1], atol=1e-15)
        assert found.min() >= 0
        assert found.max() <= 1 + 1e-12
        flipped = found[:, :6, 7:].sum() > found[:, :6, :6].sum()
        assert flipped == (batch == 3)


def test_lines_by_hand() -> None:
    diagonal, beside = snow.line(2, 2, 1), math.sqrt(2) / 4  # w' / 2
    expected = [[1, beside, 0], [beside, 1, beside], [0, beside, 1]]
    np.testing.assert_allclose(diagonal[6:9, 6:9], expected, atol=1e-15)
    assert np.count_nonzero(diagonal) == 7 + 1
    assert (diagonal[9, 8], diagonal[8, 9]) == (pytest.approx(beside), 0)  # at a tie, the line runs along the columns
    steep = snow.line(6, 3, 3)
    np.testing.assert_allclose(steep, snow.line(3, 6, 3).T)
    half = 3 * math.sqrt(1.5) / 4
    assert steep[7, 6:9].tolist() == pytest.approx([1, 1, np.clip(1 + half - 1.5, 0, 1)])


def placed(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    streaks = torch.from_numpy(np.stack([snow.kernels(RandomState(seed + k)) for k in range(count)]))
    return streaks, snow.place(streaks)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (30, 21)])
def test_snow_is_the_sum_of_seven_sparse_planes(height: int, width: int) -> None:
    streaks, where = placed(2)
    flakes = uniform(2, 7, -(-height // 4), -(-width // 4), low=-0.1)
    expected, sites = torch.zeros(2, 1, height, width, dtype=torch.float64), set()
    for plane in range(7):
        sparse = torch.zeros(2, 1, height + 8, width + 8, dtype=torch.float64)
        y, x = (0, plane) if plane < 4 else (plane - 3, 0)
        for row, column in np.ndindex(flakes.shape[2:]):
            sparse[:, 0, 4 * row + y, 4 * column + x] = flakes[:, plane, row, column] ** 4
            sites.add((4 * row + y, 4 * column + x))
        expected += torch.cat(
            [
                F.conv2d(one[None], kernel[plane][None, None], padding=6)
                for one, kernel in zip(sparse, streaks, strict=True)
            ]
        )[:, :, :height, :width]
    assert len(sites) == flakes[0].numel()  # no two planes have a site in common
    found = snow.snow(flakes, where, height, width)
    if height % 4 == width % 4 == 0:
        torch.testing.assert_close(found, expected)
    inside = (..., slice(0, height - 9), slice(0, width - 9))  # flakes beyond the edge have no part in the code's
    torch.testing.assert_close(found[inside], expected[inside])
    assert found.min() >= 0
    assert snow.snow(torch.zeros_like(flakes), where, height, width).abs().max() == 0


def test_gradient_of_snow() -> None:
    _, where = placed(2)
    flakes = uniform(2, 7, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: snow.snow(z, where, 8, 12), flakes)


def test_whitening_by_hand() -> None:
    images = uniform(2, 3, 4, 4)
    red, green, blue = images[0, :, 1, 2].tolist()
    grey = 1.5 * (0.2126 * red + 0.7152 * green + 0.0722 * blue) + 0.5
    expected = [0.75 * value + 0.25 * max(value, grey) for value in (red, green, blue)]
    assert snow.whitened(images)[0, :, 1, 2].tolist() == pytest.approx(expected)
    assert (snow.whitened(images) >= images).all()
    one = uniform(2, 1, 4, 4)
    torch.testing.assert_close(snow.whitened(one), 0.75 * one + 0.25 * torch.maximum(one, 1.5 * one + 0.5))
    assert snow.whitened(torch.ones(1, 3, 1, 1)).clamp(0, 1).flatten().tolist() == [1] * 3


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), reach=st.floats(0.1, 3), seed=st.integers(0, 99))
def test_budget_holds_in_every_block(height: int, width: int, reach: float, seed: int) -> None:
    flakes = uniform(2, 7, height, width, low=-reach, high=reach, seed=seed)
    kept = snow.within_budget(flakes)
    assert kept.min() > 0
    assert kept.max() <= 1
    for row, column in np.ndindex(-(-height // 8), -(-width // 8)):
        block = (slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
        for image, plane in np.ndindex(2, 7):
            before, after = flakes[image, plane][block].clamp(1e-9, 1), kept[image, plane][block]
            torch.testing.assert_close(after, before * min(1, 0.2 / before.mean().item()))


# --- fog -------------------------------------------------------------------------------------------------


def plasma(noise: np.ndarray, levels: int, reach: int) -> np.ndarray:
    """Specification 4 for one image, point by point."""
    side, parts = 2**levels, iter(noise)
    found = np.zeros((side, side))
    for level in range(levels):
        n, s = 2**level, side // 2**level
        h, amplitude = s // 2, 100 / 2**level
        centre, across, down = (np.array([[next(parts) for _ in range(n)] for _ in range(n)]) for _ in range(3))
        old, amid = found[::s, ::s].copy(), np.zeros((n, n))
        for a, b in np.ndindex(n, n):
            four = old[a, b] + old[(a + 1) % n, b] + old[a, (b + 1) % n] + old[(a + 1) % n, (b + 1) % n]
            amid[a, b] = four / 4 + amplitude * (2 * centre[a, b] - 1)
        for a, b in np.ndindex(n, n):
            found[a * s + h, b * s + h] = amid[a, b]
            beside = old[a, b] + old[a, (b + 1) % n] + amid[a, b] + amid[(a - reach) % n, b]
            found[a * s, b * s + h] = beside / 4 + amplitude * (2 * across[a, b] - 1)
            below = old[a, b] + old[(a + 1) % n, b] + amid[a, b] + amid[a, (b - reach) % n]
            found[a * s + h, b * s] = below / 4 + amplitude * (2 * down[a, b] - 1)
    return found


@pytest.mark.parametrize("reach", [1, 2])
def test_plasma_point_by_point(reach: int) -> None:
    noise = uniform(2, 4**5 - 1)
    found = fog.plasma(noise, 5, reach)
    for ours, drawn in zip(found, noise.numpy(), strict=True):
        np.testing.assert_allclose(ours, plasma(drawn, 5, reach), atol=1e-10)
    torch.testing.assert_close(fog.plasma(1 - noise, 5, reach), -found)
    one = torch.full((1, 4**6 - 1), 0.5)
    one[0, 0] = 1
    map_ = fog.plasma(one, 6, reach)[0]
    assert (map_[0, 0], map_[32, 32], map_[0, 32], map_[32, 0]) == (0, 100, 50, 50)


def test_fog_is_scaled_over_the_batch_or_by_image() -> None:
    noise = torch.cat([uniform(1, 255), 0.5 + 0.1 * (uniform(1, 255, seed=1) - 0.5)])
    whole, each = fog.fog(noise, 4, code=True), fog.fog(noise, 4, code=False)
    assert (whole.min(), whole.max()) == (0, 1)
    assert whole[1].max() - whole[1].min() < 0.2
    assert [(one.min(), one.max()) for one in each] == [(0, 1), (0, 1)]
    other = noise.clone()
    other[0] = 1 - other[0] ** 2
    assert not torch.allclose(fog.fog(other, 4, code=True)[1], whole[1])
    torch.testing.assert_close(fog.fog(other, 4, code=False)[1], each[1])
    torch.testing.assert_close(fog.fog(1 - noise, 4, code=True), 1 - whole)


@pytest.mark.parametrize("code", [True, False])
def test_gradient_of_a_picture_in_fog(code: bool) -> None:
    pixels, noise = 255 * uniform(2, 3, 6, 7), uniform(2, 63).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: fog.in_fog(pixels, fog.fog(v, 3, code), 50.0), noise)


def test_pictures_in_fog_by_hand() -> None:
    pixels, scaled = 255 * uniform(2, 3, 6, 8), uniform(2, 16, 16)
    brightest = pixels.amax(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(fog.in_fog(pixels, scaled, 0.0), pixels * 255 / brightest)
    centre = scaled[:, None, 5:11, 4:12].expand(-1, 3, -1, -1)
    torch.testing.assert_close(fog.in_fog(pixels, scaled, 1e9), 255 * centre, rtol=0, atol=1e-4)
    picture = (pixels[1, 2, 3, 4] + 2048 * scaled[1, 8, 8]) * 255 / (brightest[1, 2, 0, 0] + 2048)
    assert fog.in_fog(pixels, scaled, 2048.0)[1, 2, 3, 4].item() == pytest.approx(picture.item())
