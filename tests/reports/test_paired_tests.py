"""Paired tests of two methods on the same images, and their mean over several seeds."""

from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import make_result, read_rows

from irpipe.errors import IrpipeError
from irpipe.reports import paired_tests
from irpipe.results.result import Result


def test_comparison_counts_images_and_corrects_for_all_cells(tmp_path: Path) -> None:
    int_result = make_result("pgd", {(0.3, 200): range(160), (0.2, 200): range(150)}, [1, 200])
    adv_result = make_result(
        "pgd", {(0.3, 200): range(10, 178), (0.2, 200): range(150)}, [1, 200], method="adv"
    )
    paired_tests.report([int_result, adv_result], tmp_path / "t", title="T", steps=200)
    rows = {row["eps"]: row for row in read_rows(tmp_path / "t.csv")}
    assert list(rows) == ["0", "0.05", "0.1", "0.2", "0.3"]
    last = rows["0.3"]
    assert (last["first"], last["second"], last["n"]) == ("int", "adv", "200")
    assert (last["only_first"], last["only_second"], last["difference"]) == ("10", "18", "-0.04")
    # McNemar: twice the chance of at most 10 heads in 28 throws.
    p = 2 * sum(comb(28, k) for k in range(11)) / 2**28
    assert float(last["p"]) == pytest.approx(p, rel=1e-5)
    assert float(last["p_holm"]) == pytest.approx(min(1, 5 * p), rel=1e-5)
    assert rows["0.2"]["p"] == "1"
    assert pd.read_parquet(tmp_path / "t.parquet")["p"].tolist() == [
        pytest.approx(float(row["p"])) for row in rows.values()
    ]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "Int against Adv" in text
    assert "/ 10:18" in text


def test_a_clear_difference_is_marked(tmp_path: Path) -> None:
    weak = make_result("pgd", {(0.3, 200): range(20)}, [200], method="int_one_class")
    paired_tests.report([make_result("pgd", {}, [200]), weak], tmp_path / "t", title="T")
    assert (tmp_path / "t.md").read_text(encoding="utf-8").count(r"+0.900\*") == 1


def test_any_pair_of_methods_can_be_compared(tmp_path: Path) -> None:
    results = [
        make_result("pgd", {(0.3, 200): range(n)}, [200], method=method)
        for method, n in (("mine", 150), ("trades", 100), ("int", 50))
    ]
    pairs = [["mine", "trades"], ["trades", "mine"], ["mine", "absent"]]
    paired_tests.report(results, tmp_path / "t", title="T", pairs=pairs)
    rows = [row for row in read_rows(tmp_path / "t.csv") if row["eps"] == "0.3"]
    assert [(row["first"], row["second"]) for row in rows] == [
        ("mine", "trades"),
        ("trades", "mine"),
    ]
    assert [float(row["difference"]) for row in rows] == [0.25, -0.25]


def test_a_network_made_elsewhere_is_compared_with_all_models_and_runs(tmp_path: Path) -> None:
    """Mine keeps 150 of 200 images; Int's seeds keep 160, 140 (Small) and 130 (Pool)."""
    results = [
        make_pgd("mine", "external", 150, model="own"),
        make_pgd("int", "seed0", 160),
        make_pgd("int", "seed1", 140),
        make_pgd("int", "seed0", 130, model="pool"),
        make_pgd("adv", "seed0", 10),
    ]
    pairs = [["mine", "int"]]
    paired_tests.report(results, tmp_path / "t", title="T", pairs=pairs)
    rows = [row for row in read_rows(tmp_path / "t.csv") if row["eps"] == "0.3"]
    assert [(row["model"], row["run"], float(row["difference"])) for row in rows] == [
        ("own against small", "external against seed0", -0.05),
        ("own against small", "external against seed1", 0.05),
        ("own against pool", "external against seed0", 0.1),
        ("own against small", "mean of 2", 0),
    ]
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "mine against Int (own against small, mean of 2 seeds)" in text


def test_comparison_refuses_other_images_and_missing_cells(tmp_path: Path) -> None:
    int_result = make_result("pgd", {}, [200])
    adv_result = make_result("pgd", {}, [200], method="adv")
    both = [int_result, adv_result]
    with pytest.raises(IrpipeError, match="lacks ε = 0 at 100 steps"):
        paired_tests.report(both, tmp_path / "t", title="T", steps=100)
    adv_result.arrays["indices"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="mnist/small/adv/released/pgd are of other images"):
        paired_tests.report(both, tmp_path / "t", title="T")
    with pytest.raises(IrpipeError, match="no network has both methods of int and adv or"):
        paired_tests.report([int_result], tmp_path / "t", title="T")
    assert not list(tmp_path.iterdir())


# --- several seeds


def make_pgd(method: str, run: str, n_correct: int, model: str = "small") -> Result:
    attrs = {"method": method, "run": run, "model": model}
    return make_result("pgd", {(0.3, 200): range(n_correct)}, [200], **attrs)


def read_rows_by_run(path: Path) -> dict[str, dict[str, str]]:
    """The rows at eps 0.3."""
    return {row["run"]: row for row in read_rows(path) if row["eps"] == "0.3"}


def test_seeds_are_a_second_level(tmp_path: Path) -> None:
    """Int minus Adv is 0.1 and -0.05 for two seeds; the released network does not count."""
    results = [
        make_pgd("int", "seed0", 160),
        make_pgd("adv", "seed0", 140),
        make_pgd("int", "seed1", 150),
        make_pgd("adv", "seed1", 160),
        make_pgd("int", "released", 158),
        make_pgd("adv", "released", 178),
    ]
    paired_tests.report(results, tmp_path / "t", title="T")
    rows = read_rows_by_run(tmp_path / "t.csv")
    assert list(rows) == ["released", "seed0", "seed1", "mean of 2"]
    mean = rows["mean of 2"]
    assert (mean["difference"], mean["n"]) == ("0.025", "200")
    assert (mean["p"], mean["first_sha256"]) == ("", "")
    # A quarter of the resamples has seed1 alone and a quarter seed0 alone, so the interval
    # contains both seeds' means.
    assert float(mean["low"]) < -0.05
    assert float(mean["high"]) > 0.1
    assert "Int against Adv (mean of 2 seeds)" in (tmp_path / "t.md").read_text(encoding="utf-8")


def test_one_seed_has_no_mean(tmp_path: Path) -> None:
    results = [make_pgd("int", "seed0", 160), make_pgd("adv", "seed0", 140)]
    paired_tests.report(results, tmp_path / "t", title="T")
    assert list(read_rows_by_run(tmp_path / "t.csv")) == ["seed0"]
    assert "mean of" not in (tmp_path / "t.md").read_text(encoding="utf-8")


def test_seeds_must_have_the_same_images(tmp_path: Path) -> None:
    results = [
        make_pgd(method, run, 150) for run in ("seed0", "seed1") for method in ("int", "adv")
    ]
    for result in results[2:]:
        result.arrays["indices"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="seed1/pgd are of other images"):
        paired_tests.report(results, tmp_path / "t", title="T")
