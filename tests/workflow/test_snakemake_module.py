"""The workflow as a module of another one, which has its own rules and its own folder."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from warm_python import programs
from workflow_copy import CONFIG, ROOT, path_with_fake_irpipe

SNAKEFILE = f"""
configfile: "theirs.yaml"

module robust:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config["robust"]
    prefix: "robust"

use rule * from robust as robust_*

rule theirs:
    default_target: True
    input: rules.robust_all.input, "robust/results/benchmarks/figure_jobs.png"
    output: "theirs.txt"
    shell: "touch {{output}}"
"""


def write_workflow(folder: Path, config: dict[str, Any]) -> None:
    """Write a Snakefile that uses irpipe's workflow as a module with this config."""
    (folder / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    content = yaml.safe_dump({"theirs": 1, "robust": config})
    (folder / "theirs.yaml").write_text(content, encoding="utf-8")


def snakemake(folder: Path, *options: str) -> None:
    """Run snakemake in a folder to its end, which must be without an error."""
    command = [programs() / "python", "-m", "snakemake", "--cores", "8", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_workflow_uses_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path that the fake `irpipe` gets is where the rule expects its outputs."""
    write_workflow(tmp_path, CONFIG)
    monkeypatch.setenv("PATH", path_with_fake_irpipe(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    snakemake(tmp_path, "--resources", "gpu=4")
    snakemake(tmp_path, "--report", "report.html")
    results = tmp_path / "robust" / "results"
    assert (results / "tables/table_steps.csv").exists()
    assert (results / "figures/figure_eps.png").exists()
    assert (results / "digits/small/int/seed0/pgd.h5").exists()
    assert not (tmp_path / "results").exists()
    assert "Attacked by: pgd" in (tmp_path / "report.html").read_text(encoding="utf-8")
