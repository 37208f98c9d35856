"""Who beats whom over several seeds: the mean, with an interval over seeds and images."""

import csv
from pathlib import Path

import numpy as np
import pytest
from test_compare import made

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.reports import compare


def pgd(method: str, run: str, right: int) -> Result:
    return made("pgd", {(0.3, 200): range(right)}, [200], method=method, run=run)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["eps"] == "0.3"]


def test_seeds_are_a_second_level(tmp_path: Path) -> None:
    """Int against Adv: +.1 and -.05 of two seeds; the released network stays apart."""
    results = [pgd("int", "seed0", 160), pgd("adv", "seed0", 140), pgd("int", "seed1", 150), pgd("adv", "seed1", 160)]
    results += [pgd("int", "released", 158), pgd("adv", "released", 178)]
    compare.report(results, tmp_path / "t", title="T")
    found = {row["run"]: row for row in records(tmp_path / "t.csv")}
    assert list(found) == ["released", "seed0", "seed1", "mean of 2"]
    mean = found["mean of 2"]
    assert (mean["difference"], mean["n"], mean["p"], mean["first_sha256"]) == ("0.025", "200", "", "")
    # a quarter of the draws take seed1 alone and a quarter seed0 alone, so the interval reaches beyond both means
    assert float(mean["low"]) < -0.05
    assert float(mean["high"]) > 0.1
    assert "Int against Adv (mean of 2 seeds)" in (tmp_path / "t.md").read_text()


def test_one_seed_has_no_mean(tmp_path: Path) -> None:
    compare.report([pgd("int", "seed0", 160), pgd("adv", "seed0", 140)], tmp_path / "t", title="T")
    assert [row["run"] for row in records(tmp_path / "t.csv")] == ["seed0"]
    assert "mean of" not in (tmp_path / "t.md").read_text()


def test_seeds_see_the_same_images(tmp_path: Path) -> None:
    results = [pgd(method, run, 150) for run in ("seed0", "seed1") for method in ("int", "adv")]
    for result in results[2:]:
        result.arrays["index"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="seed1/pgd are of other images"):
        compare.report(results, tmp_path / "t", title="T")
