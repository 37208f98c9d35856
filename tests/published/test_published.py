"""The paper's numbers, under the methods they belong to."""

from pathlib import Path

import pytest

from irpipe import published
from irpipe.errors import IrpipeError
from irpipe.published import (
    METHODS,
    PublishedKey,
    PublishedValue,
    Table1Key,
    order_of,
    published_table,
    published_table1,
)

CIFAR_EPS = [0, 2 / 255, 4 / 255, 6 / 255, 8 / 255]
TABLES = ("2", "3", "4", "5", "A1", "A2", "A3", "A4", "A5")
# Rows of Table A1 for CIFAR-10 Small by their published label (C.6-1).
A1_ROWS = {
    "ig_norm": [0.525, 0.435, 0.360, 0.295, 0.230],
    "ig_sum_norm": [0.390, 0.365, 0.325, 0.310, 0.285],
    "int": [0.530, 0.450, 0.345, 0.290, 0.215],
    "int_adv": [0.675, 0.145, 0.005, 0.000, 0.000],
    "int_one_class": [0.515, 0.450, 0.380, 0.315, 0.265],
}
# The method that a row belongs to, by its published label.
CORRECT_METHOD = {
    "ig_norm": "int",
    "ig_sum_norm": "int_adv",
    "int": "int_one_class",
    "int_adv": "ig_norm",
    "int_one_class": "ig_sum_norm",
}


@pytest.mark.parametrize(("table", "steps"), [("A1", 200), ("A2", 100)])
def test_rows_of_a1_and_a2_have_their_true_method(table: str, steps: int) -> None:
    values = published_table(table)
    for label, method in CORRECT_METHOD.items():
        keys = [PublishedKey("cifar10", "small", method, "pgd", steps, eps) for eps in CIFAR_EPS]
        expected = [PublishedValue(value, label) for value in A1_ROWS[label]]
        assert [values[key] for key in keys] == expected


@pytest.mark.parametrize("table", TABLES)
def test_no_other_rows_are_relabelled(table: str) -> None:
    values = published_table(table)
    relabelled = {key[:3] for key, value in values.items() if value.published_as != key.method}
    expected = {("cifar10", "small", method) for method in CORRECT_METHOD}
    assert relabelled == (expected if table in ("A1", "A2") else set())
    assert {key.method for key in values} <= set(METHODS)


def values_of_small(table: str) -> dict[tuple[str, float | None], float]:
    """Published values of the model Small by method and eps."""
    return {
        (key.method, key.eps): value.value
        for key, value in published_table(table).items()
        if key.model == "small"
    }


def test_a3_has_the_same_networks_under_correct_labels() -> None:
    corrected = values_of_small("A1")
    ten_steps = values_of_small("A3")
    assert corrected.keys() == ten_steps.keys()
    differences = [abs(corrected[key] - ten_steps[key]) for key in corrected]
    assert max(differences) <= 0.005 + 1e-9  # one image


def test_no_published_number_is_lost() -> None:
    n_rows = (
        len(
            Path(published.__file__)
            .with_name("published.csv")
            .read_text(encoding="utf-8")
            .splitlines()
        )
        - 1
    )
    assert sum(len(published_table(table)) for table in TABLES) == n_rows == 581
    assert PublishedKey("cifar10", "small", "int", "gabor", 200, None) in published_table("5")


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(IrpipeError, match=r"no table 'A9'; have: 2, 3, 4, 5, A1"):
        published_table("A9")


def test_unknown_names_come_last() -> None:
    names = ["mine", "int_adv", "alien", "normal"]
    ordered = sorted(names, key=lambda name: order_of(METHODS, name))
    assert ordered == ["normal", "int_adv", "alien", "mine"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("mnist", "small", "normal", "cam", "l1", "two"), (3.2672, 0.0223)),
        (("cifar10", "small", "normal", "ig", "l2", "one"), (0.1230, 0.0110)),
        (("restricted_imagenet", "wresnet", "normal", "repr", "l1", "two"), (46.892, 0.0657)),
    ],
)
def test_cells_of_table_1(key: tuple[str, ...], value: tuple[float, float]) -> None:
    assert published_table1()[Table1Key(*key)] == value


def test_table_1_has_all_cells_and_repr_only_two_classes() -> None:
    keys = published_table1().keys()
    assert len(keys) == 54
    assert {key.class_set for key in keys if key.interpreter == "repr"} == {"two"}
