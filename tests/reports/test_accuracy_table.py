"""The table of accuracies: columns, published values, marks, means over seeds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import read_rows
from pgd_results import MNIST_EPS, STEPS, make_cifar_result, make_pgd_result

from irpipe.errors import IrpipeError
from irpipe.reports import accuracy_table
from irpipe.results.result import Result, read_result, write_result

A1_INT = [0.525, 0.435, 0.360, 0.295, 0.230]  # printed "IG-Norm" (C.6-1)


@pytest.fixture
def table_3(tmp_path: Path) -> list[Path]:
    """The files of a table next to Table 3, which prints Int as .935 .930 .905 .840 .790.

    Two of Int's cells are one image off, one is two images off. One eps is not in Table 3.
    """
    int_result = make_pgd_result([0.935, 0.935, 0.9, 0.85, 0.79, 0.1], MNIST_EPS)
    write_result(tmp_path / "int.h5", int_result)
    results = [
        make_pgd_result([0.5] * 6, MNIST_EPS, method="mine_2"),
        read_result(tmp_path / "int.h5"),
    ]
    return accuracy_table.report(
        results, tmp_path / "table_3", title="PGD & 100% of it", published="3"
    )


def test_csv_has_one_record_per_cell(table_3: list[Path]) -> None:
    rows = read_rows(table_3[0])
    assert [row["eps"] for row in rows] == ["0", "0.05", "0.1", "0.2", "0.3"] * 2
    assert [row["mark"] for row in rows] == ["", "*", "*", "**", ""] + [""] * 5
    assert [row["difference"] for row in rows[:5]] == ["0.0", "0.005", "-0.005", "0.01", "0.0"]
    assert {row["published"] for row in rows[5:]} == {""}
    assert rows[4] == {
        "table": "table_3",
        "dataset": "mnist",
        "model": "small",
        "method": "int",
        "run": "released",
        "attack": "pgd",
        "eps": "0.3",
        "steps": "200",
        "metric": "accuracy",
        "value": "0.79",
        "n": "200",
        "low": "0.728354",
        "high": "0.840716",
        "spread": "",
        "published": "0.79",
        "published_as": "int",
        "difference": "0.0",
        "mark": "",
        "network_sha256": "feed",
        "code_hash": "c0de",
    }


def test_parquet_has_the_same_numbers(table_3: list[Path]) -> None:
    frame = pd.read_parquet(table_3[1])
    assert list(frame) == list(read_rows(table_3[0])[0])
    int_rows, other_rows = frame[:5], frame[5:]
    assert int_rows["value"].tolist() == [0.935, 0.935, 0.9, 0.85, 0.79]
    assert int_rows["published"].tolist() == [0.935, 0.93, 0.905, 0.84, 0.79]
    assert frame["n"].tolist() == [200] * 10
    assert other_rows["published"].isna().all()
    assert frame["spread"].dtype == np.float64


def test_people_see_interval_published_value_and_mark(table_3: list[Path]) -> None:
    names = [f"table_3{suffix}" for suffix in (".csv", ".parquet", ".md", ".tex", ".html")]
    assert [path.name for path in table_3] == names
    markdown, latex, page = (path.read_text(encoding="utf-8") for path in table_3[2:])
    assert "| Int | 0.935 [0.89, 0.96] (0.935) | 0.935\\* [0.89, 0.96] (0.930) |" in markdown
    assert "| mine\\_2 | 0.500 [0.43, 0.57] |" in markdown
    assert r"0.850$^{**}$ {\scriptsize\color{gray}(0.840)}\\{\scriptsize [0.79, 0.89]}" in latex
    assert r"\caption{PGD \& 100\% of it: MNIST, Small, 200 steps, n = 200}" in latex
    assert r"mine\_2 & \shortstack{0.500" in latex
    marked = '<td class="far">0.850<sup>**</sup> <span class="aside">(0.840)</span>'
    assert f"{marked}<br><small>[0.79, 0.89]" in page
    assert "<h1>PGD &amp; 100% of it</h1>" in page


def test_columns_by_steps_are_at_the_eps_of_training(tmp_path: Path) -> None:
    """Table 4 prints Int as .935 .910 .790 .790."""
    accuracy = {1: 0.935, 10: 0.91, 100: 0.79, 200: 0.79}
    result = make_pgd_result(lambda eps, steps: accuracy[steps] if eps == 0.3 else 0.0, MNIST_EPS)
    paths = accuracy_table.report([result], tmp_path / "t", title="T", sweep="steps", published="4")
    assert [(row["steps"], row["eps"], row["difference"]) for row in read_rows(paths[0])] == [
        (str(steps), "0.3", "0.0") for steps in STEPS
    ]


def test_several_seeds_get_their_mean_and_spread(tmp_path: Path) -> None:
    """0.8 and 0.9 have the mean 0.85 and the sample standard deviation 0.1 / sqrt(2).

    The released network does not count.
    """
    accuracy_by_run = {"seed0": 0.8, "seed1": 0.9, "released": 0.1}
    results = [
        make_pgd_result([accuracy] * 6, MNIST_EPS, run=run)
        for run, accuracy in accuracy_by_run.items()
    ]
    results.append(make_pgd_result([0.5] * 6, MNIST_EPS, method="adv", run="seed0"))
    paths = accuracy_table.report(results, tmp_path / "t", title="T")
    means = [row for row in read_rows(paths[0]) if row["run"].startswith("mean")]
    assert [(row["method"], row["run"], row["value"], row["spread"]) for row in means] == [
        ("int", "mean of 2", "0.85", "0.070711")
    ] * 5
    assert {row[name] for row in means for name in ("low", "high", "difference")} == {""}
    text = paths[2].read_text(encoding="utf-8")
    assert "| Int mean of 2 seeds | 0.850 ± 0.071 |" in text
    assert "| Int (seed1) | 0.900 [" in text
    assert text.endswith("± gives the standard deviation over seeds.\n")
    assert "published" not in text


def test_without_published_values_columns_end_at_the_eps_of_training(tmp_path: Path) -> None:
    result = make_pgd_result([0.9] * 6, MNIST_EPS, run="seed0")
    paths = accuracy_table.report([result], tmp_path / "t", title="T", steps=10)
    assert [row["eps"] for row in read_rows(paths[0])] == ["0", "0.05", "0.1", "0.2", "0.3"]
    text = paths[2].read_text(encoding="utf-8")
    assert "| Int | 0.900 [0.85, 0.93] |" in text
    # The legend explains no mark that does not occur.
    assert text.endswith("and its 95% Wilson interval in brackets.\n")


def test_relabelled_rows_show_the_printed_label(tmp_path: Path) -> None:
    result = make_cifar_result(A1_INT, "small", "int")
    paths = accuracy_table.report([result], tmp_path / "t", title="T", published="A1")
    rows = read_rows(paths[0])
    assert [row["eps"] for row in rows] == ["0", "2/255", "4/255", "6/255", "8/255"]
    assert {(row["published_as"], row["mark"]) for row in rows} == {("ig_norm", "")}
    assert "| Int printed as IG-Norm | 0.525 " in paths[2].read_text(encoding="utf-8")


def test_data_sets_may_have_results_of_different_code(tmp_path: Path) -> None:
    other = make_pgd_result([0.5] * 6, MNIST_EPS, dataset="digits", code_hash="5a5a")
    results = [make_pgd_result([0.8] * 6, MNIST_EPS), other]
    paths = accuracy_table.report(results, tmp_path / "out", title="Title")
    assert [row["code_hash"] for row in read_rows(paths[0])] == ["c0de"] * 5 + ["5a5a"] * 5


@pytest.mark.parametrize(
    ("result", "options", "message"),
    [
        (
            make_pgd_result([0.5], [0.3]),
            {"published": "3"},
            r"t: mnist/small/int/released/pgd lacks ε = 0 at 200 steps; it has ε = 0.3 at",
        ),
        (
            make_pgd_result([0.5], [0.3]),
            {"steps": 50},
            r"lacks ε = 0.3 at 50 steps; it has ε = 0.3 at 1, 10, 100, 200 steps",
        ),
        (make_pgd_result([0.5], [0.4]), {}, r"lacks ε = 0.3 at 200 steps"),
    ],
)
def test_a_missing_column_is_named(
    result: Result, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(IrpipeError, match=message):
        accuracy_table.report([result], tmp_path / "t", title="T", **options)
