"""What costs before the first number: starting a command, planning hundreds of jobs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from irpipe import config
from irpipe.spec import kinds


def seconds(folder: Path, *command: str) -> tuple[float, str]:
    """CPU time of a Python command, which other work on the machine does not lengthen, and what it printed."""
    before = os.times()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["check"], ["report", "--help"], ["--version"]])
def test_commands_without_torch_start_in_half_a_second(tmp_path: Path, command: list[str]) -> None:
    assert min(seconds(tmp_path, "-m", "irpipe", *command)[0] for _ in range(3)) < 0.5


def test_reports_import_no_torch(tmp_path: Path) -> None:
    names = [f"irpipe.reports.{kind}" for kind in kinds("reports")]
    script = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    assert seconds(tmp_path, "-c", script)[1] == "False\n"


def test_dry_run_of_the_paper_with_ten_seeds_takes_under_twenty_seconds(tmp_path: Path) -> None:
    """With empty files for the released networks: a dry run does not look into them."""
    paper = ROOT / "config/paper.yaml"
    for entry in config.read(paper)["networks"]:
        for file in entry.get("released", {}).values():
            (tmp_path / file).touch()
    options = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(paper), "--config", "seeds=10"]
    command = ["-m", "snakemake", "--dry-run", "--cores", "2", *options, f"released={tmp_path}"]
    spent, said = seconds(tmp_path, *command)
    jobs = {
        line.split()[0]: int(line.split()[1]) for line in said.splitlines() if line.startswith(("train ", "total "))
    }
    assert int(jobs["train"]) >= 300
    assert int(jobs["total"]) > 600
    assert spent < 20
