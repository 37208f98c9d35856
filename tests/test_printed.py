"""The paper's numbers, under the labels they belong to."""

from pathlib import Path

import pytest

from irpipe import published
from irpipe.errors import IrpipeError
from irpipe.published import METHODS, Cell, Measure, Printed, place, resistances, values

CIFAR = [0, 2 / 255, 4 / 255, 6 / 255, 8 / 255]
TABLES = ("2", "3", "4", "5", "A1", "A2", "A3", "A4", "A5")
A1 = {  # printed label: row, protocol C.6-1 and Table A1
    "ig_norm": [0.525, 0.435, 0.360, 0.295, 0.230],
    "ig_sum_norm": [0.390, 0.365, 0.325, 0.310, 0.285],
    "int": [0.530, 0.450, 0.345, 0.290, 0.215],
    "int_adv": [0.675, 0.145, 0.005, 0.000, 0.000],
    "int_one_class": [0.515, 0.450, 0.380, 0.315, 0.265],
}
BELONGS = {
    "ig_norm": "int",
    "ig_sum_norm": "int_adv",
    "int": "int_one_class",
    "int_adv": "ig_norm",
    "int_one_class": "ig_sum_norm",
}


@pytest.mark.parametrize("name", ["A1", "A2"])
def test_rows_of_a1_and_a2_stand_under_their_true_method(name: str) -> None:
    steps = {"A1": 200, "A2": 100}[name]
    for label, method in BELONGS.items():
        row = [values(name)["cifar10", "small", method, "pgd", steps, eps] for eps in CIFAR]  # type: ignore[index]
        assert row == [Printed(value, label) for value in A1[label]]


def test_only_those_rows_are_moved() -> None:
    for name in TABLES:
        moved = {cell[:3] for cell, value in values(name).items() if value.label != cell.method}
        assert moved == ({("cifar10", "small", m) for m in BELONGS} if name in ("A1", "A2") else set())
        assert {cell.method for cell in values(name)} <= set(METHODS)


def test_a3_prints_the_same_networks_under_the_same_labels() -> None:
    corrected = {cell[2:3] + cell[5:]: value.value for cell, value in values("A1").items() if cell[1] == "small"}
    ten_steps = {cell[2:3] + cell[5:]: value.value for cell, value in values("A3").items() if cell[1] == "small"}
    assert corrected.keys() == ten_steps.keys()
    assert max(abs(corrected[key] - ten_steps[key]) for key in corrected) <= 0.005 + 1e-9  # one image


def test_nothing_printed_is_lost() -> None:
    source = Path(published.__file__).with_name("published.csv").read_text()
    assert sum(len(values(name)) for name in TABLES) == len(source.splitlines()) - 1 == 581
    assert Cell("cifar10", "small", "int", "gabor", 200, None) in values("5")


def test_a_table_that_is_not_there_is_named() -> None:
    with pytest.raises(IrpipeError, match=r"no table 'A9'; have: 2, 3, 4, 5, A1"):
        values("A9")


def test_unknown_names_come_last() -> None:
    ordered = sorted(["mine", "int_adv", "alien", "normal"], key=lambda name: place(METHODS, name))
    assert ordered == ["normal", "int_adv", "alien", "mine"]


def test_table_1() -> None:
    found = resistances()
    assert len(found) == 54
    assert found[Measure("mnist", "small", "normal", "cam", "l1", "two")] == (3.2672, 0.0223)
    assert found[Measure("cifar10", "small", "normal", "ig", "l2", "one")] == (0.1230, 0.0110)
    assert found[Measure("restricted_imagenet", "wresnet", "normal", "repr", "l1", "two")] == (46.892, 0.0657)
    assert {measure.classes for measure in found if measure.interpreter == "repr"} == {"two"}
