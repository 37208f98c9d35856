"""The report page around tables and figures: captions, parts of the paper, costs of jobs."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docutils.core import publish_parts
from workflow_copy import CONFIG, ROOT

from irpipe import config as configs
from irpipe.config import kinds, yaml_reader
from irpipe.config.captions import caption, part
from irpipe.errors import IrpipeError
from irpipe.reports import job_costs
from irpipe.results.job_costs import read_job_costs
from irpipe.results.result import Result

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
SMALL_CONFIG: dict[str, Any] = CONFIG | {
    "seeds": 5,
    "attacks": {"pgd": {"kind": "pgd"}, "other": {"kind": "pgd"}},
    "networks": [
        {
            "dataset": "digits",
            "model": "small",
            "methods": ["adv", "int"],
            "recipe": "short",
            "attacks": ["pgd"],
        },
        {
            "dataset": "digits",
            "model": "pool",
            "methods": ["x"],
            "attacks": ["other"],
            "released_files": {"x": "x.pkl"},
        },
    ],
    "tables": {"1": {"kind": "accuracy_table", "title": "One", "attack": "pgd", "sweep": "steps"}},
    "figures": {"2": {"kind": "training_curves", "title": "Two"}},
}


def test_caption_says_what_it_shows_and_from_which_networks() -> None:
    config = configs.validate(SMALL_CONFIG)
    lines = caption(config, "tables", "1").restructured_text().splitlines()
    assert lines[0].startswith("The table compares adversarial test accuracies with the published")
    assert lines[0].endswith(" Attacked by: pgd.")
    assert lines[1:] == [
        "",
        "Networks:",
        "",
        "- digits small: adv (seed0, seed1 ... seed4), int (seed0, seed1 ... seed4)",
    ]


def test_caption_of_training_logs_leaves_out_released_networks() -> None:
    found = caption(configs.validate(SMALL_CONFIG), "figures", "2")
    assert "Attacked by" not in found.text
    assert len(found.networks) == 1
    assert "pool" not in found.networks[0]


@pytest.mark.parametrize("kind", kinds.kinds("reports"))
def test_first_paragraph_of_each_kind_is_short_and_ends_a_sentence(kind: str) -> None:
    source = (kinds.PACKAGE_FOLDER / "reports" / f"{kind}.py").read_text(encoding="utf-8")
    paragraph = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
    assert re.fullmatch(r"[A-Z].{20,299}\.", paragraph, re.DOTALL)


def test_part_of_the_paper() -> None:
    names = ["1", "3", "A1", "A12", "eps", "errata", "A", "Adv1", "1_imagenet"]
    assert [part(name) for name in names] == [
        *["The paper"] * 2,
        *["The paper's appendix"] * 2,
        *["Beyond the paper"] * 4,
        "The paper",
    ]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem
)
def test_captions_of_all_configs_are_valid_text(path: Path) -> None:
    config = configs.validate(yaml_reader.read_yaml(path))
    for section in ("tables", "figures"):
        for name in config[section]:
            text = caption(config, section, name).restructured_text()
            assert text.splitlines()[0]
            publish_parts(
                text, writer="html", settings_overrides={"halt_level": 2, "report_level": 2}
            )


def write_benchmark(path: Path, seconds: str, memory: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"{HEADER}{seconds}\t0:00:01\t{memory}\t1\t1\t1\t0\t0\t1\t1\n", encoding="utf-8"
    )


def test_costs_of_jobs_are_read_and_drawn(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "data/digits.test.tsv", "1.5", "300.25")
    write_benchmark(tmp_path / "digits/small/int/seed0/train.tsv", "20", "400")
    # This job ended before its memory was measured.
    write_benchmark(tmp_path / "digits/small/int/seed0/pgd.tsv", "0.01", "-")
    write_benchmark(tmp_path / "tables/steps.tsv", "2", "NA")
    result = read_job_costs(tmp_path)
    assert result.attrs["attack"] == "job_costs"
    assert result.arrays["job"].tolist() == ["data", "pgd", "train", "tables"]
    np.testing.assert_array_equal(result.arrays["seconds"], [1.5, 0.01, 20, 2])
    np.testing.assert_array_equal(result.arrays["memory"], [300.25, np.nan, 400, np.nan])
    paths = job_costs.report([result], tmp_path / "figure", title="Cost")
    assert [path.suffix for path in paths] == [".png", ".pdf", ".svg"]
    svg = paths[2].read_text(encoding="utf-8")
    labels = [f"<!-- {job} (1) -->" for job in ("data", "train", "pgd", "tables")]
    assert sorted(labels, key=svg.index) == labels


@pytest.mark.parametrize("text", ["", HEADER, "a\tb\n1\t2\n", "\xff"])
def test_what_is_no_benchmark_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.tsv").write_bytes(text.encode("latin1"))
    with pytest.raises(IrpipeError, match=r"one\.tsv: not a benchmark file"):
        read_job_costs(tmp_path)


def test_a_folder_without_benchmark_files_gives_an_empty_figure(tmp_path: Path) -> None:
    """Results may be copied without them, and the report page still shows the rest."""
    result = read_job_costs(tmp_path)
    assert [len(array) for array in result.arrays.values()] == [0, 0, 0]
    paths = job_costs.report([result], tmp_path / "figure", title="Cost")
    assert "no benchmark files of Snakemake" in paths[2].read_text(encoding="utf-8")


def test_an_absent_folder_and_other_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match=r"none: cannot be listed \(No such file or directory\)"):
        read_job_costs(tmp_path / "none")
    with pytest.raises(IrpipeError, match="found none"):
        job_costs.report([Result({"attack": "pgd"}, {})], tmp_path / "figure", title="Cost")
