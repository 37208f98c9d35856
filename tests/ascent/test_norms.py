"""Balls in the l-inf, l2 and l1 norm."""

import numpy as np
import pytest
import torch
from torch import Tensor

from irpipe.ascent.norms import ball_update, norms, project, random_in_ball

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}
NORMS = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])


def changes(n: int = 6, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(n, 2, 3, 4, generator=generator)


def column(values: list[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


@NORMS
def test_norms_are_numpys(norm: str) -> None:
    measured = norms(changes(), norm)  # type: ignore[arg-type]
    expected = np.linalg.norm(changes().numpy().reshape(6, -1), ord=ORDERS[norm], axis=1)
    np.testing.assert_allclose(measured, expected, rtol=1e-6)


@NORMS
def test_a_projection_is_the_nearest_point_of_the_ball(norm: str) -> None:
    """No other point of the ball is nearer, tried at random; a point inside stays."""
    change = changes()
    eps = column([0.1, 0.5, 1, 2, 4, 1000])
    nearest = project(change, eps, norm)  # type: ignore[arg-type]
    reached = norms(nearest, norm)  # type: ignore[arg-type]
    assert (reached <= eps.flatten() * (1 + 1e-6)).all()
    torch.testing.assert_close(nearest[-1], change[-1])
    distance = (nearest - change).flatten(1).norm(dim=1)
    rng = np.random.RandomState(0)
    for _ in range(200):
        point = random_in_ball(rng, norm, change).float() * eps  # type: ignore[arg-type]
        # Between a point of the ball and the projection lie points of the ball.
        for share in (1.0, 0.1, 0.01):
            other = nearest + share * (point - nearest)
            assert ((other - change).flatten(1).norm(dim=1) >= distance - 1e-4).all()


def test_the_projection_onto_the_l1_ball_by_hand() -> None:
    """(3, -1, 0.5) shrinks by 1 to (2, 0, 0) for eps 2, and by 0.5 to (2.5, -0.5, 0) for 3."""
    change = torch.tensor([3.0, -1.0, 0.5]).view(1, 1, 1, 3).repeat(2, 1, 1, 1)
    expected = torch.tensor([[2.0, 0.0, 0.0], [2.5, -0.5, 0.0]])
    torch.testing.assert_close(
        project(change, column([2.0, 3.0]), "l1").flatten(1), expected, rtol=0, atol=1e-4
    )


@NORMS
def test_random_points_fill_the_ball(norm: str) -> None:
    """In d dimensions, half of the points lie beyond the radius 2^(-1/d); none beyond 1."""
    like = torch.zeros(4000, 1, 1, 3)
    points = random_in_ball(np.random.RandomState(1), norm, like)  # type: ignore[arg-type]
    length = np.linalg.norm(points.numpy().reshape(4000, 3), ord=ORDERS[norm], axis=1)
    assert length.max() <= 1
    assert (length > 0.5 ** (1 / 3)).mean() == pytest.approx(0.5, abs=0.03)
    assert points.mean(dim=0).abs().max() < 0.03


def test_steps_by_hand() -> None:
    """l2 steps along (3, 4) / 5; l1 moves one entry, the largest that has room."""
    centre = torch.full((1, 1, 1, 2), 0.5)
    gradient = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    eps = column([0.4])
    l2 = ball_update(centre, eps, 0.1, "l2")(centre, gradient)
    torch.testing.assert_close(l2.flatten(), torch.tensor([0.56, 0.58]))
    l1 = ball_update(centre, eps, 0.1, "l1")(centre, gradient)
    torch.testing.assert_close(l1.flatten(), torch.tensor([0.5, 0.6]))
    at_the_end = torch.tensor([0.5, 1.0]).view(1, 1, 1, 2)
    l1 = ball_update(at_the_end, eps, 0.1, "l1")(at_the_end, gradient)
    torch.testing.assert_close(l1.flatten(), torch.tensor([0.6, 1.0]))


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_no_gradient_is_no_step(norm: str) -> None:
    centre = torch.full((2, 1, 2, 2), 0.5)
    update = ball_update(centre, column([0.4, 0.4]), 0.1, norm)  # type: ignore[arg-type]
    torch.testing.assert_close(update(centre, torch.zeros_like(centre)), centre)
