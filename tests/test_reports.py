"""Selection, tables, erratum and curves, on results of known accuracy."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irpipe.errors import IrpipeError
from irpipe.io import Result, read_result, write_result
from irpipe.reports import curve, erratum, table
from irpipe.reports.parts.selection import eps_label, rate, select

CIFAR = [0, 2 / 255, 4 / 255, 6 / 255, 8 / 255]
MNIST = [0, 0.05, 0.1, 0.2, 0.3, 0.35]
STEPS = [1, 10, 100, 200]
Accuracy = Sequence[float] | Callable[[float, int], float]
A1_INT = [0.525, 0.435, 0.360, 0.295, 0.230]  # printed "IG-Norm", protocol C.6-1
A1_INT_ONE_CLASS = [0.530, 0.450, 0.345, 0.290, 0.215]  # printed "Int"


def made(accuracy: Accuracy, eps: list[float], n: int = 200, **attrs: object) -> Result:
    """A PGD result, on MNIST Small unless told, with accuracy given per radius or by radius and steps."""
    shape = (n, len(eps), len(STEPS))
    correct, radius = np.zeros(shape, bool), np.zeros(shape)
    for e, epsilon in enumerate(eps):
        for s, steps in enumerate(STEPS):
            share = accuracy(epsilon, steps) if callable(accuracy) else accuracy[e]
            correct[: round(share * n), e, s] = True
            radius[:, e, s] = min(epsilon, steps * 0.01)
    arrays = {"eps": np.array(eps), "steps": np.array(STEPS), "correct": correct, "radius": radius}
    known: dict[str, object] = {"dataset": "mnist", "model": "small", "method": "int", "run": "released"}
    known |= {"attack": "pgd", "kind": "pgd", "code": "c0de", "network_sha256": "feed", "data_sha256": "beef"}
    known |= {"nominal_radius": 0.3, "spec": {"step_size": 0.01, "relative": None, "random_start": False}}
    return Result(known | attrs, arrays)


def cifar(accuracy: Accuracy, model: str, method: str, run: str = "released") -> Result:
    names: dict[str, Any] = {"dataset": "cifar10", "model": model, "method": method, "run": run}
    return made(accuracy, CIFAR, **names, nominal_radius=8 / 255)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- selection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eps", "label"),
    [
        (0, "0"),
        (2 / 255, "2/255"),
        (8 / 255, "8/255"),
        (0.05, "0.05"),
        (0.2, "0.2"),
        (0.3, "0.3"),
        (0.003, "0.003"),
    ],
)
def test_radii_read_as_people_write_them(eps: float, label: str) -> None:
    assert eps_label(eps) == eps_label(float(np.float32(eps))) == label


def test_rate_counts_images() -> None:
    found = rate(made(lambda eps, steps: 0.79 if steps == 200 else 0.5, MNIST), 0.3, 200)
    assert found is not None
    assert (found.value, found.n) == (0.79, 200)
    assert (round(found.low, 4), round(found.high, 4)) == (0.7284, 0.8407)
    assert rate(made([1.0], [0.3]), 0.25, 200) is None
    assert rate(made([1.0], [0.3]), 0.3, 50) is None


def test_results_come_in_the_order_of_the_paper() -> None:
    runs = ("seed10", "seed2", "released")
    results = [made([1.0], [0.3], method=method, run=run) for method in ("mine", "int", "adv") for run in runs]
    chosen = select([cifar([1.0] * 5, "pool", "int"), *results], "pgd", "table_3")
    assert list(chosen) == [("mnist", "small"), ("cifar10", "pool")]
    found = [(result.attrs["method"], result.attrs["run"]) for result in chosen["mnist", "small"]]
    assert found == [(method, run) for method in ("adv", "int", "mine") for run in ("released", "seed2", "seed10")]


REPORTS: dict[str, Callable[..., list[Path]]] = {
    "table": table.report,
    "erratum": erratum.report,
    "curve": curve.report,
}


@pytest.mark.parametrize("kind", REPORTS)
def test_reports_refuse_results_that_do_not_belong_together(kind: str, tmp_path: Path) -> None:
    one = made([0.8] * 6, MNIST)
    cases = {
        r"out: two results of mnist/small/int/released/pgd": [one, one],
        r"out: mnist/small/int/.* is from code c0de, but mnist/small/adv/.* is from code 5a5a; evaluate": [
            one,
            made([0.8] * 6, MNIST, method="adv", code="5a5a"),
        ],
        r"out: wants results of attack 'pgd'; found aai": [made([0.8] * 6, MNIST, attack="aai")],
        r"out: wants results of attack 'pgd'; found no results": [],
        r"out: mnist/small/int/released/pgd is of kind 'mine'": [Result(one.attrs | {"kind": "mine"}, {})],
    }
    for message, results in cases.items():
        with pytest.raises(IrpipeError, match=message):
            REPORTS[kind](results, tmp_path / "out", title="Title")
    assert not list(tmp_path.iterdir())


def test_code_of_another_data_set_may_differ(tmp_path: Path) -> None:
    other = made([0.5] * 6, MNIST, dataset="digits", code="5a5a")
    assert table.report([made([0.8] * 6, MNIST), other], tmp_path / "out", title="Title")


# --- tables --------------------------------------------------------------------------------------------


def test_table_of_radii_beside_the_paper(tmp_path: Path) -> None:
    """Table 3 prints Int as .935 .930 .905 .840 .790: here two cells are one image off, one is two images off."""
    results = [made([0.935, 0.935, 0.9, 0.85, 0.79, 0.1], MNIST), made([0.5] * 6, MNIST, method="mine_2")]
    write_result(tmp_path / "int.h5", results[0])
    paths = table.report(
        [results[1], read_result(tmp_path / "int.h5")],
        tmp_path / "table_3",
        title="PGD & 100% of it",
        published="3",
    )
    assert [path.name for path in paths] == ["table_3.csv", "table_3.md", "table_3.tex", "table_3.html"]
    rows = records(paths[0])
    assert [row["eps"] for row in rows] == ["0", "0.05", "0.1", "0.2", "0.3"] * 2  # 0.35 is not in Table 3
    assert [row["mark"] for row in rows] == ["", "*", "*", "**", ""] + [""] * 5
    assert [row["difference"] for row in rows[:5]] == ["0.0", "0.005", "-0.005", "0.01", "0.0"]
    assert {row["published"] for row in rows[5:]} == {""}
    assert rows[4] == {
        "table": "table_3",
        **{"dataset": "mnist", "model": "small", "method": "int", "run": "released", "attack": "pgd"},
        **{"eps": "0.3", "steps": "200", "metric": "accuracy", "value": "0.79", "n": "200"},
        **{
            "low": "0.728354",
            "high": "0.840716",
            "spread": "",
            "published": "0.79",
            "printed_as": "int",
            "difference": "0.0",
        },
        **{"mark": "", "network_sha256": "feed", "code": "c0de"},
    }
    markdown, latex, page = (path.read_text() for path in paths[1:])
    assert "| Int | 0.935 [0.89, 0.96] (0.935) | 0.935\\* [0.89, 0.96] (0.930) |" in markdown
    assert "| mine\\_2 | 0.500 [0.43, 0.57] |" in markdown
    assert r"0.850$^{**}$ {\scriptsize\color{gray}(0.840)}\\{\scriptsize [0.79, 0.89]}" in latex
    assert r"\caption{PGD \& 100\% of it: MNIST, Small, 200 steps, n = 200}" in latex
    assert r"mine\_2 & \shortstack{0.500" in latex
    assert '<td class="far">0.850<sup>**</sup> <span class="aside">(0.840)</span><br><small>[0.79, 0.89]' in page
    assert "<h1>PGD &amp; 100% of it</h1>" in page


def test_table_of_steps_at_the_training_radius(tmp_path: Path) -> None:
    """Table 4 prints Int as .935 .910 .790 .790."""
    accuracy = {1: 0.935, 10: 0.91, 100: 0.79, 200: 0.79}
    result = made(lambda eps, steps: accuracy[steps] if eps == 0.3 else 0.0, MNIST)
    rows = records(table.report([result], tmp_path / "t", title="T", over="steps", published="4")[0])
    assert [(row["steps"], row["eps"], row["difference"]) for row in rows] == [
        (str(steps), "0.3", "0.0") for steps in STEPS
    ]


def test_several_seeds_get_their_mean_and_spread(tmp_path: Path) -> None:
    """Mean and sample standard deviation by hand: of .8 and .9, .85 and .1 / sqrt 2; the released run is apart."""
    results = [made([share] * 6, MNIST, run=run) for run, share in (("seed0", 0.8), ("seed1", 0.9), ("released", 0.1))]
    paths = table.report([*results, made([0.5] * 6, MNIST, method="adv", run="seed0")], tmp_path / "t", title="T")
    means = [row for row in records(paths[0]) if row["run"].startswith("mean")]
    assert [(row["method"], row["run"], row["value"], row["spread"]) for row in means] == [
        ("int", "mean of 2", "0.85", "0.070711")
    ] * 5
    assert "| Int mean of 2 seeds | 0.850 ± 0.071 |" in paths[1].read_text()


def test_without_published_values_radii_end_at_the_training_radius(tmp_path: Path) -> None:
    paths = table.report([made([0.9] * 6, MNIST, run="seed0")], tmp_path / "t", title="T", steps=10)
    assert [row["eps"] for row in records(paths[0])] == ["0", "0.05", "0.1", "0.2", "0.3"]
    assert "| Int (seed0) | 0.900 [0.85, 0.93] |" in paths[1].read_text()


def test_relabelled_rows_show_the_printed_label(tmp_path: Path) -> None:
    paths = table.report([cifar(A1_INT, "small", "int")], tmp_path / "t", title="T", published="A1")
    rows = records(paths[0])
    assert [row["eps"] for row in rows] == ["0", "2/255", "4/255", "6/255", "8/255"]
    assert {(row["printed_as"], row["mark"]) for row in rows} == {("ig_norm", "")}
    assert "| Int printed as IG-Norm | 0.525 " in paths[1].read_text()


def test_a_missing_radius_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        IrpipeError, match=r"t: mnist/small/int/released/pgd lacks ε = 0 at 200 steps; it has ε = 0.3 at"
    ):
        table.report([made([0.5], [0.3])], tmp_path / "t", title="T", published="3")
    with pytest.raises(IrpipeError, match=r"lacks ε = 0.3 at 50 steps; it has ε = 0.3 at 1, 10, 100, 200 steps"):
        table.report([made([0.5], [0.3])], tmp_path / "t", title="T", steps=50)
    with pytest.raises(IrpipeError, match=r"lacks ε = 0.3 at 200 steps"):
        table.report([made([0.5], [0.4])], tmp_path / "t", title="T")


# --- erratum -------------------------------------------------------------------------------------------


def test_labels_are_judged_by_results(tmp_path: Path) -> None:
    found = [cifar(A1_INT, "small", "int"), cifar([0.65, 0.015, 0, 0, 0], "small", "normal")]
    trained = cifar([0.5] * 5, "small", "adv", run="seed0")
    rows = records(erratum.report([*found, trained], tmp_path / "e", title="T")[0])
    notes = {row["what"]: row["note"] for row in rows if row["item"] == "Row labels"}
    right = "matches the row printed Normal (mean difference 0.0000)"
    wrong = "matches the row printed IG-Norm (mean difference 0.0000; the row printed Int: 0.0110)"  # 0.055 / 5
    assert notes == {
        "row Normal of Table A1": right,
        "row Int of Table A1": wrong,
        "row Normal of Table A2": right,
        "row Int of Table A2": wrong,
    }


def test_a_result_may_contradict_the_correction(tmp_path: Path) -> None:
    rows = records(erratum.report([cifar(A1_INT_ONE_CLASS, "small", "int")], tmp_path / "e", title="T")[0])
    note = "matches the row printed Int (mean difference 0.0000); the correction says IG-Norm"
    assert rows[0]["note"] == note


def test_cells_with_two_numbers(tmp_path: Path) -> None:
    at_8 = {"adv": 0.17, "trades": 0.165, "int": 0.2725}
    results = [cifar([0.7, 0.6, 0.5, 0.4, share], "wresnet", method) for method, share in at_8.items()]
    results[2] = made(lambda eps, steps: 109 / 400, CIFAR, n=400, **results[2].attrs)
    rows = records(erratum.report(results, tmp_path / "e", title="T")[0])
    cells = {row["what"]: (row["printed"], row["ours"], row["note"]) for row in rows if row["protocol"] == "C.4 P5"}
    at = "200 steps, ε = 8/255"
    assert cells == {
        f"Adv, {at}": ("0.170 (Table 3), 0.185 (Table 4)", "0.170", "Table 3 is nearer"),
        f"TRADES, {at}": ("0.170 (Table 3), 0.165 (Table 4)", "0.165", "Table 4 is nearer"),
        f"Int, {at}": ("0.270 (Table 3), 0.275 (Table 4)", "0.273", "both equally near"),
        f"Int-Adv, {at}": ("0.320 (Table 3), 0.335 (Table 4)", "", "no result of this network"),
        f"Int-1-class, {at}": ("0.065 (Table 3), 0.060 (Table 4)", "", "no result of this network"),
    }


def test_reach_of_the_steps(tmp_path: Path) -> None:
    paths = erratum.report([made([0.8] * 6, MNIST)], tmp_path / "e", title="T")
    rows = [row for row in records(paths[0]) if row["item"] == "Reach"]
    assert [(row["what"], row["ours"], row["note"]) for row in rows] == [
        ("reach of 1 step", "0.01", "1 x 0.01 = 0.01: cannot reach ε, tests 0.01 at most"),
        ("reach of 10 steps", "0.1", "10 x 0.01 = 0.1: cannot reach ε, tests 0.1 at most"),
        ("reach of 100 steps", "0.3", "100 x 0.01 = 1: can reach ε"),
        ("reach of 200 steps", "0.3", "200 x 0.01 = 2: can reach ε"),
    ]
    for path in paths:
        assert "cannot reach" in path.read_text()


@pytest.mark.parametrize("option", [{"relative": 2.5}, {"random_start": True}])
def test_reach_is_of_fixed_steps_from_the_image(option: dict[str, Any], tmp_path: Path) -> None:
    result = made([0.8] * 6, MNIST, spec={"step_size": 0.01} | option)
    rows = records(erratum.report([result], tmp_path / "e", title="T")[0])
    assert {row["item"] for row in rows} == {"One cell, two numbers"}


# --- curves and bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REPORTS)
def test_equal_results_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    results = [made([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], MNIST, method=m) for m in ("int", "mine")]
    results += [cifar([0.7, 0.6, 0.5, 0.4, 0.3], "small", "adv", run=run) for run in ("released", "seed0")]
    first = REPORTS[kind](results, tmp_path / "a" / "out", title="T")
    second = REPORTS[kind](results[::-1], tmp_path / "b" / "out", title="T")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)


@pytest.mark.parametrize("over", ["eps", "steps"])
def test_curve_draws_png_pdf_and_svg(over: str, tmp_path: Path) -> None:
    results = [made([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], MNIST), cifar([0.7, 0.6, 0.5, 0.4, 0.3], "small", "int")]
    png, pdf, svg = curve.report(results, tmp_path / "robustness", title="T", over=over)  # type: ignore[arg-type]
    assert (png.name, pdf.name, svg.name) == ("robustness.png", "robustness.pdf", "robustness.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    assert svg.read_text().count("<svg ") == 1


def test_curve_names_what_it_cannot_draw(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match=r"mnist/small/int/released/pgd was not evaluated at 50 steps"):
        curve.report([made([0.5], [0.3])], tmp_path / "c", title="T", steps=50)
    with pytest.raises(IrpipeError, match=r"mnist/small/int/released/pgd was not evaluated at ε = 0.3"):
        curve.report([made([0.5], [0.2])], tmp_path / "c", title="T", over="steps")
