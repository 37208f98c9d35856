"""The workflow as a module of another one: its rules below a name and its files below a folder of their own."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project import CONFIG, ROOT, pretended

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


def test_another_workflow_uses_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pretended irpipe: that every path a command is given lies where the rule's outputs are expected."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"theirs": 1, "robust": CONFIG}))
    monkeypatch.setenv("PATH", pretended(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for options in (["--resources", "gpu=4"], ["--report", "report.html"]):
        command = [sys.executable, "-m", "snakemake", "--cores", "8", *options]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    for name in ("tables/table_steps.csv", "figures/figure_radius.png", "digits/small/int/seed0/pgd.h5"):
        assert (tmp_path / "robust/results" / name).exists()
    assert not (tmp_path / "results").exists()
    assert "Attacked by: pgd" in (tmp_path / "report.html").read_text()
