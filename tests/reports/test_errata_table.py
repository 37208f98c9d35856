"""The errata of the PGD tables, on results of known accuracy."""

from pathlib import Path
from typing import Any

import pytest
from made_results import read_rows
from pgd_results import CIFAR_EPS, MNIST_EPS, make_cifar_result, make_pgd_result

from irpipe.reports import errata_table
from irpipe.results.result import Result

# Rows of Table A1 with exchanged labels (C.6-1).
A1_INT = [0.525, 0.435, 0.360, 0.295, 0.230]  # printed "IG-Norm"
A1_INT_ONE_CLASS = [0.530, 0.450, 0.345, 0.290, 0.215]  # printed "Int"


def errata(results: list[Result], tmp_path: Path) -> list[dict[str, str]]:
    return read_rows(errata_table.report(results, tmp_path / "e", title="T")[0])


def test_labels_are_checked_by_released_networks(tmp_path: Path) -> None:
    results = [
        make_cifar_result(A1_INT, "small", "int"),
        make_cifar_result([0.65, 0.015, 0, 0, 0], "small", "normal"),
        make_cifar_result([0.5] * 5, "small", "adv", run="seed0"),
    ]
    rows = errata(results, tmp_path)
    notes = {row["what"]: row["note"] for row in rows if row["item"] == "Row labels"}
    correct = "matches the row printed Normal (mean difference 0.0000)"
    # The row printed Int differs by 0.055 in all, over five eps.
    wrong = "matches the row printed IG-Norm (mean difference 0.0000; the row printed Int: 0.0110)"
    assert notes == {
        "row Normal of Table A1": correct,
        "row Int of Table A1": wrong,
        "row Normal of Table A2": correct,
        "row Int of Table A2": wrong,
    }


def test_a_result_may_contradict_the_correction(tmp_path: Path) -> None:
    rows = errata([make_cifar_result(A1_INT_ONE_CLASS, "small", "int")], tmp_path)
    assert rows[0]["note"] == (
        "matches the row printed Int (mean difference 0.0000); the correction says IG-Norm"
    )


def test_cells_with_two_numbers(tmp_path: Path) -> None:
    accuracies = {"adv": 0.17, "trades": 0.165}
    results = [
        make_cifar_result([0.7, 0.6, 0.5, 0.4, accuracy], "wresnet", method)
        for method, accuracy in accuracies.items()
    ]
    results.append(make_cifar_result([109 / 400] * len(CIFAR_EPS), "wresnet", "int", n=400))
    cells = {
        row["what"]: (row["published"], row["measured"], row["note"])
        for row in errata(results, tmp_path)
        if row["protocol"] == "C.4 P5"
    }
    at = "200 steps, ε = 8/255"
    assert cells == {
        f"Adv, {at}": ("0.170 (Table 3), 0.185 (Table 4)", "0.170", "Table 3 is nearer"),
        f"TRADES, {at}": ("0.170 (Table 3), 0.165 (Table 4)", "0.165", "Table 4 is nearer"),
        f"Int, {at}": ("0.270 (Table 3), 0.275 (Table 4)", "0.273", "both equally near"),
        f"Int-Adv, {at}": ("0.320 (Table 3), 0.335 (Table 4)", "", "no result of this network"),
        f"Int-1-class, {at}": ("0.065 (Table 3), 0.060 (Table 4)", "", "no result of this network"),
    }


def test_reach_of_the_steps(tmp_path: Path) -> None:
    result = make_pgd_result([0.8] * 6, MNIST_EPS)
    paths = errata_table.report([result], tmp_path / "e", title="T")
    rows = [row for row in read_rows(paths[0]) if row["item"] == "Reach"]
    assert [(row["what"], row["measured"], row["note"]) for row in rows] == [
        ("reach of 1 step", "0.01", "1 x 0.01 = 0.01: cannot reach ε, tests 0.01 at most"),
        ("reach of 10 steps", "0.1", "10 x 0.01 = 0.1: cannot reach ε, tests 0.1 at most"),
        ("reach of 100 steps", "0.3", "100 x 0.01 = 1: can reach ε"),
        ("reach of 200 steps", "0.3", "200 x 0.01 = 2: can reach ε"),
    ]
    assert [path.suffix for path in paths] == [".csv", ".parquet", ".md", ".tex", ".html"]
    for path in paths:
        assert b"cannot reach" in path.read_bytes()


@pytest.mark.parametrize("option", [{"step_size_factor": 2.5}, {"random_start": True}])
def test_reach_is_that_of_fixed_steps_from_the_image(
    option: dict[str, Any], tmp_path: Path
) -> None:
    result = make_pgd_result([0.8] * 6, MNIST_EPS, options={"step_size": 0.01} | option)
    assert {row["item"] for row in errata([result], tmp_path)} == {"One cell, two numbers"}
