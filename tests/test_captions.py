"""What stands around the tables and figures of the report page: captions, parts of the paper, what jobs cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docutils.core import publish_parts
from project import CONFIG, ROOT

from irpipe import config as configs
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.jobs import read_benchmarks
from irpipe.reports import benchmarks
from irpipe.reports.parts.captions import caption, part

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
SMALL: dict[str, Any] = CONFIG | {
    "seeds": 5,
    "attacks": {"pgd": {"kind": "pgd"}, "other": {"kind": "pgd"}},
    "networks": [
        {"dataset": "digits", "model": "small", "methods": ["adv", "int"], "recipe": "short", "attacks": ["pgd"]},
        {"dataset": "digits", "model": "pool", "methods": ["x"], "attacks": ["other"], "released": {"x": "x.pkl"}},
    ],
    "tables": {"1": {"kind": "table", "title": "One", "attack": "pgd", "over": "steps"}},
    "figures": {"2": {"kind": "training", "title": "Two"}},
}


def test_caption_says_what_it_shows_and_from_which_networks() -> None:
    checked = configs.check(SMALL)
    lines = caption(checked, "tables", "1").splitlines()
    assert lines[0].startswith("Adversarial test accuracy over radii")
    assert lines[2:] == [
        "Attacked by: pgd. Networks:",
        "",
        "- digits small: adv (seed0, seed1 ... seed4), int (seed0, seed1 ... seed4)",
    ]
    assert caption(checked, "figures", "2").splitlines()[2] == "Networks:"
    assert "pool" not in caption(checked, "figures", "2")  # a released network has no log of its training


def test_part_of_the_paper() -> None:
    names = ["1", "3", "A1", "A12", "radius", "erratum", "A", "Adv1"]
    places = [part(name) for name in names]
    assert places == ["The paper"] * 2 + ["The paper's appendix"] * 2 + ["Beyond the paper"] * 4


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_captions_of_all_configs_are_sound_text(path: Path) -> None:
    checked = configs.check(configs.read(path))
    for section in ("tables", "figures"):
        for name in checked[section]:
            text = caption(checked, section, name)
            assert text.splitlines()[0]
            publish_parts(text, writer="html", settings_overrides={"halt_level": 2, "report_level": 2})


def benchmark(path: Path, seconds: str, memory: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}{seconds}\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t1\t1\n")


def test_reads_what_jobs_cost(tmp_path: Path) -> None:
    benchmark(tmp_path / "data/digits.test.tsv", "1.5", "300.25")
    benchmark(tmp_path / "digits/small/int/seed0/train.tsv", "20", "400")
    benchmark(tmp_path / "digits/small/int/seed0/pgd.tsv", "0.01", "-")  # over before it was measured
    benchmark(tmp_path / "tables/steps.tsv", "2", "NA")
    result = read_benchmarks(tmp_path)
    assert result.attrs["attack"] == "benchmarks"
    assert result.arrays["job"].tolist() == ["data", "pgd", "train", "tables"]
    np.testing.assert_array_equal(result.arrays["seconds"], [1.5, 0.01, 20, 2])
    np.testing.assert_array_equal(result.arrays["memory"], [300.25, np.nan, 400, np.nan])
    written = benchmarks.report([result], tmp_path / "figure", title="Cost")
    assert [path.suffix for path in written] == [".png", ".pdf", ".svg"]


@pytest.mark.parametrize("text", ["", HEAD, "a\tb\n1\t2\n", "\xff"])
def test_refuses_what_is_no_benchmark(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.tsv").write_bytes(text.encode("latin1"))
    with pytest.raises(IrpipeError, match=r"one\.tsv: not a benchmark file"):
        read_benchmarks(tmp_path)


def test_refuses_an_empty_folder_and_other_results(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="no benchmark files"):
        read_benchmarks(tmp_path)
    with pytest.raises(IrpipeError, match="found none"):
        benchmarks.report([Result({"attack": "pgd"}, {})], tmp_path / "figure", title="Cost")
