"""Fog's plasma, scale and images: against loops written from U.4, by hand, by gradients."""

import numpy as np
import pytest
import torch
from unforeseen_batches import uniform

from irpipe.attacks import fog


def plasma_by_loop(noise: np.ndarray, n_levels: int, reach: int) -> np.ndarray:
    """The plasma of U.4 for one image, point by point."""
    size = 2**n_levels
    entries = iter(noise)
    plasma = np.zeros((size, size))
    for level in range(n_levels):
        n = 2**level
        s = size // n
        h = s // 2
        amplitude = 100 / n
        v_c, v_a, v_b = (
            np.array([[next(entries) for _ in range(n)] for _ in range(n)]) for _ in range(3)
        )
        c = plasma[::s, ::s].copy()
        d = np.zeros((n, n))
        for a, b in np.ndindex(n, n):
            corners = c[a, b] + c[(a + 1) % n, b] + c[a, (b + 1) % n] + c[(a + 1) % n, (b + 1) % n]
            d[a, b] = corners / 4 + amplitude * (2 * v_c[a, b] - 1)
        for a, b in np.ndindex(n, n):
            plasma[a * s + h, b * s + h] = d[a, b]
            across = c[a, b] + c[a, (b + 1) % n] + d[a, b] + d[(a - reach) % n, b]
            plasma[a * s, b * s + h] = across / 4 + amplitude * (2 * v_a[a, b] - 1)
            down = c[a, b] + c[(a + 1) % n, b] + d[a, b] + d[a, (b - reach) % n]
            plasma[a * s + h, b * s] = down / 4 + amplitude * (2 * v_b[a, b] - 1)
    return plasma


@pytest.mark.parametrize("reach", [1, 2])
def test_plasma_point_by_point(reach: int) -> None:
    noise = uniform(2, 4**5 - 1)
    plasma = fog.plasma(noise, 5, reach)
    for image, entries in zip(plasma, noise.numpy(), strict=True):
        np.testing.assert_allclose(image, plasma_by_loop(entries, 5, reach), atol=1e-10)
    torch.testing.assert_close(fog.plasma(1 - noise, 5, reach), -plasma)
    single = torch.full((1, 4**6 - 1), 0.5)
    single[0, 0] = 1
    image = fog.plasma(single, 6, reach)[0]
    assert (image[0, 0], image[32, 32], image[0, 32], image[32, 0]) == (0, 100, 50, 50)


def test_fog_is_scaled_over_the_batch_or_for_each_image() -> None:
    noise = torch.cat([uniform(1, 255), 0.5 + 0.1 * (uniform(1, 255, seed=1) - 0.5)])
    released = fog.fog_map(noise, 4, as_released=True)
    fixed = fog.fog_map(noise, 4, as_released=False)
    assert (released.min(), released.max()) == (0, 1)
    assert released[1].max() - released[1].min() < 0.2
    assert [(image.min(), image.max()) for image in fixed] == [(0, 1), (0, 1)]
    other = noise.clone()
    other[0] = 1 - other[0] ** 2
    assert not torch.allclose(fog.fog_map(other, 4, as_released=True)[1], released[1])
    torch.testing.assert_close(fog.fog_map(other, 4, as_released=False)[1], fixed[1])
    torch.testing.assert_close(fog.fog_map(1 - noise, 4, as_released=True), 1 - released)


@pytest.mark.parametrize("as_released", [True, False])
def test_the_gradient_of_an_image_in_fog(as_released: bool) -> None:
    pixels = 255 * uniform(2, 3, 6, 7)
    noise = uniform(2, 63).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: fog.add_fog(pixels, fog.fog_map(v, 3, as_released), 50.0), noise
    )


def test_images_in_fog_by_hand() -> None:
    pixels = 255 * uniform(2, 3, 6, 8)
    fog_map = uniform(2, 16, 16)
    brightest = pixels.amax(dim=(2, 3), keepdim=True)
    torch.testing.assert_close(fog.add_fog(pixels, fog_map, 0.0), pixels * 255 / brightest)
    middle = fog_map[:, None, 5:11, 4:12].expand(-1, 3, -1, -1)
    torch.testing.assert_close(fog.add_fog(pixels, fog_map, 1e9), 255 * middle, rtol=0, atol=1e-4)
    pixel = (pixels[1, 2, 3, 4] + 2048 * fog_map[1, 8, 8]) * 255 / (brightest[1, 2, 0, 0] + 2048)
    foggy = fog.add_fog(pixels, fog_map, 2048.0)
    assert foggy[1, 2, 3, 4].item() == pytest.approx(pixel.item())
