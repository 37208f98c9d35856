"""Gradient ascent on one pixel by hand, its precision, and the random start."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import gradient_ascent, linf_sign_update, random_perturbation


def pixel(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=dtype)


@pytest.mark.parametrize(
    ("start", "slope", "path"),
    [
        (0.5, 3.0, [0.6, 0.7, 0.75, 0.75]),  # eps stops it
        (0.5, -0.1, [0.4, 0.3, 0.25, 0.25]),
        (0.85, 1.0, [0.95, 1.0, 1.0, 1.0]),  # 1 stops it
        (0.05, -1.0, [0.0, 0.0, 0.0, 0.0]),  # 0 stops it
        (0.5, 0.0, [0.5, 0.5, 0.5, 0.5]),  # without a slope there is no step
    ],
)
def test_one_pixel_by_hand(start: float, slope: float, path: list[float]) -> None:
    update = linf_sign_update(pixel(start), 0.25, 0.1)
    iterates = gradient_ascent(pixel(start), lambda image: slope * image.sum(), update, 4)
    # A step is float32, as in the released code.
    assert [point.item() for point in iterates] == pytest.approx(path, abs=1e-8)


def test_ascent_follows_the_gradient_at_the_point_not_at_the_start() -> None:
    # -|x - 0.62| from 0.5 in steps of 0.1: up to 0.6 and 0.7 beyond the top, then back and forth.
    update = linf_sign_update(pixel(0.5), 0.5, 0.1)
    iterates = gradient_ascent(pixel(0.5), lambda image: -(image - 0.62).abs().sum(), update, 5)
    expected = [0.6, 0.7, 0.6, 0.7, 0.6]
    assert [point.item() for point in iterates] == pytest.approx(expected, abs=1e-8)


def test_eps_and_step_size_may_differ_between_images() -> None:
    images = torch.full((2, 2, 1, 1, 1), 0.5, dtype=torch.float64)  # [E, N, C, H, W]
    eps = torch.tensor([0.1, 0.4], dtype=torch.float64).view(-1, 1, 1, 1, 1)
    update = linf_sign_update(images, eps, 2 * eps / 3)
    iterates = torch.stack(list(gradient_ascent(images, torch.sum, update, 2))).flatten(1)
    expected = torch.tensor(
        [[0.5 + 0.2 / 3] * 2 + [0.5 + 0.8 / 3] * 2, [0.6] * 2 + [0.9] * 2], dtype=torch.float64
    )
    torch.testing.assert_close(iterates, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.3, 1.0])
def test_one_clip_equals_the_two_of_the_released_code(eps: float) -> None:
    rng = np.random.default_rng(5)
    clean = rng.uniform(size=(64, 1, 8, 8)).astype(np.float32)
    clean[:4] = rng.integers(0, 2, size=(4, 1, 8, 8))  # pixels at 0 and 1, too
    point = rng.uniform(size=clean.shape)
    gradient = rng.normal(size=clean.shape).astype(np.float32)
    update = linf_sign_update(torch.from_numpy(clean), eps, 0.01)
    clipped = update(torch.from_numpy(point), torch.from_numpy(gradient))
    # float64 plus float32, as in the released code
    unclipped = point + 0.01 * np.sign(gradient)
    in_ball = np.clip(unclipped, clean - np.float32(eps), clean + np.float32(eps))
    assert clipped.dtype == torch.float64
    np.testing.assert_allclose(clipped.numpy(), np.clip(in_ball, 0, 1), rtol=0, atol=1e-7)
    assert not np.array_equal(clipped.numpy(), unclipped)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_keep_their_dtype_and_the_objective_gets_float32(dtype: torch.dtype) -> None:
    objective_arguments = []

    def objective(image: Tensor) -> Tensor:
        objective_arguments.append((image.dtype, image.item()))
        return image.sum()

    start = pixel(0.1, dtype) + 2.0**-40  # float32 cannot represent this
    points = list(gradient_ascent(start, objective, linf_sign_update(start, 0.3, 2.0**-45), 3))
    assert {point.dtype for point in points} == {dtype}
    assert objective_arguments == [(torch.float32, float(np.float32(0.1)))] * 3
    if dtype == torch.float64:
        n_steps = [round((point - start).item() * 2**45) for point in points]
        assert n_steps == [1, 2, 3]
    assert not any(point.requires_grad for point in points)


@pytest.mark.parametrize("distribution", ["uniform", "gaussian"])
def test_noise_is_drawn_in_the_order_of_the_released_code(
    distribution: Literal["uniform", "gaussian"],
) -> None:
    like = torch.zeros(2, 3, 4, 5)
    rng = np.random.RandomState(99)
    if distribution == "uniform":
        expected = rng.uniform(-0.3, 0.3, size=(2, 4, 5, 3))
    else:
        expected = rng.normal(0, 1e-3, (2, 4, 5, 3))
    noise = random_perturbation(np.random.RandomState(99), distribution, 0.3, like)
    assert (noise.dtype, noise.shape) == (torch.float64, like.shape)
    for i, c, h, w in np.ndindex(*like.shape):
        assert noise[i, c, h, w].item() == pytest.approx(expected[i, h, w, c], rel=1e-14)
