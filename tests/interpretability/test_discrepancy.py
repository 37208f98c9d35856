"""Discrepancies of maps by hand (C.5)."""

import math

import pytest
import torch
from torch import Tensor

from irpipe.interpretability.discrepancy import all_measures, distance, normalised_discrepancy

# One image with two maps. Max - min of the clean maps are 4 and 2.
CLEAN = torch.tensor([[[[0.0, 4], [2, 1]], [[1, 1], [1, 3]]]])
# The first map changes by 3 and -4, the second by -1.
ADVERSARIAL = torch.tensor([[[[3.0, 0], [2, 1]], [[1, 1], [1, 2]]]])


@pytest.mark.parametrize(
    ("norm", "squared_l2", "expected"),
    [("l1", False, [7, 1]), ("l1", True, [7, 1]), ("l2", False, [5, 1]), ("l2", True, [25, 1])],
)
def test_distances_by_hand(norm: str, squared_l2: bool, expected: list[float]) -> None:
    assert distance(ADVERSARIAL, CLEAN, norm, squared_l2).tolist() == [expected]
    flat, flat_clean = ADVERSARIAL.flatten(2), CLEAN.flatten(2)
    assert distance(flat, flat_clean, norm, squared_l2).tolist() == [expected]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_where_nothing_changed_the_gradient_is_zero(norm: str) -> None:
    maps = CLEAN.clone().requires_grad_()
    distance(maps, CLEAN, norm).sum().backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert not maps.grad.any()


@pytest.mark.parametrize(
    ("norm", "expected"), [("l1", (7 / 4 + 1 / 2) / 2), ("l2", (5 / 4 + 1 / 2) / 2)]
)
def test_normalised_discrepancy_by_hand(norm: str, expected: float) -> None:
    value, n_constant = normalised_discrepancy(ADVERSARIAL, CLEAN, norm)
    assert value.tolist() == pytest.approx([expected])
    assert n_constant.tolist() == [0]


def test_constant_maps_are_left_out_and_counted() -> None:
    def with_constant_maps(maps: Tensor) -> Tensor:
        return torch.cat([torch.full((1, 3, 2, 2), 7.0), maps], dim=1)

    value, n_constant = normalised_discrepancy(
        with_constant_maps(ADVERSARIAL), with_constant_maps(CLEAN), "l1"
    )
    assert (value.tolist(), n_constant.tolist()) == ([1.125], [3])
    value, n_constant = normalised_discrepancy(ADVERSARIAL, torch.ones_like(CLEAN), "l1")
    assert math.isnan(value.item())
    assert n_constant.tolist() == [2]


def test_measures_have_a_fixed_order() -> None:
    norms, class_sets = ["l2", "l1"], ["one", "all"]
    pairs = [("l2", "one"), ("l2", "all"), ("l1", "one"), ("l1", "all")]
    assert [tuple(measure) for measure in all_measures("cam", norms, class_sets)] == pairs
    pairs = [("l2", "two"), ("l1", "two")]
    assert [tuple(measure) for measure in all_measures("repr", norms, class_sets)] == pairs
