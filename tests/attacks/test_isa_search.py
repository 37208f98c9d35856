"""The searches of ISA and its steps, by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from irpipe.attacks._isa_search import INITIAL_GAMMA
from irpipe.attacks._isa_steps import binary_search, projected_descent


def test_steps_saturate_and_stay_in_the_ball() -> None:
    images = torch.full((2, 1, 1, 2), 0.5).double()
    eps = torch.tensor([0.1, 0.6]).double()
    weight = torch.tensor([[2.0, -0.5], [2.0, -0.5]])[:, None, None]
    options: dict[str, Any] = {"steps": 2, "rel_step_size": 0.2, "grad_scale": 1.0}

    def descend(**changed: Any) -> Tensor:
        def loss(point: Tensor) -> Tensor:
            return (weight * point).sum(dim=(1, 2, 3))

        gradient = weight.expand_as(images)
        return projected_descent(images, gradient, eps, loss, **options | changed)[:, 0, 0]

    expected = torch.tensor([[0.5 - 0.04, 0.5 + 0.02], [0.5 - 0.24, 0.5 + 0.12]]).double()
    torch.testing.assert_close(descend(), expected)
    expected = torch.tensor([[0.46, 0.54], [0.26, 0.74]]).double()
    torch.testing.assert_close(descend(grad_scale=None), expected)
    expected = torch.tensor([[0.4, 0.59], [0.0, 1.0]]).double()
    torch.testing.assert_close(descend(steps=9), expected)


def test_search_by_hand() -> None:
    values = []

    def probe(value: Tensor) -> tuple[Tensor, Tensor]:
        values.append(value.tolist())
        return value < torch.tensor([0.3, 2.0, 0.0]), 10 * value[:, None]

    low, high, at_low, at_high = binary_search(probe, torch.full((3,), 0.1), 1, steps=5)
    expected = [
        [0.1] * 3,
        [0.2, 0.2, 0.05],
        [0.4, 0.4, 0.025],
        [0.3, 0.7, 0.0125],
        [0.25, 0.85, 0.00625],
    ]
    torch.testing.assert_close(torch.tensor(values), torch.tensor(expected))
    torch.testing.assert_close(
        torch.stack([low, high]), torch.tensor([[0.25, 0.85, 0], [0.3, 1, 0.00625]])
    )
    assert at_low[:2, 0].tolist() == pytest.approx([2.5, 8.5])  # no value below was tried
    assert at_high[::2, 0].tolist() == pytest.approx([3.0, 0.0625])


def test_search_to_a_tolerance_finds_what_the_steps_do_not_reach() -> None:
    edge = torch.tensor([3e-5, 0.01, 0.2, 50.0, torch.inf]).double()
    first = torch.full((5,), INITIAL_GAMMA).double()

    def probe(value: Tensor) -> tuple[Tensor, Tensor]:
        return value < edge[: len(value)], value

    low, high, at_low, _ = binary_search(probe, first, 1, steps=10)
    assert at_low.tolist() == low.tolist()
    assert low.max().item() == pytest.approx(0.0256)  # C.5 I1: ten steps reach 5e-5 * 2^9
    assert (high == 1).tolist() == [False, False, True, True, True]
    low, high, at_low, at_high = binary_search(probe, first, torch.inf, 10, rtol=0.01)
    assert at_low.tolist() == low.tolist()
    assert at_high[:4].tolist() == high[:4].tolist()
    assert (low < edge).all()
    assert (high >= edge).all()
    assert (high[:4] - low[:4] <= 0.01 * high[:4]).all()
    assert (high == torch.inf).tolist() == [False] * 4 + [True]
    # A bracket that is narrow enough rests while the others go on.
    few = binary_search(probe, first[:2], torch.inf, 10, rtol=0.01)
    assert few.low.tolist() == low[:2].tolist()
