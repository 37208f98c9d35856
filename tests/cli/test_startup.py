"""The cost before the first number: starting a command, planning hundreds of jobs."""

import builtins
import gc
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run
from workflow_copy import ROOT

from irpipe.cli import stress
from irpipe.cli._torch import import_torch
from irpipe.config import yaml_reader
from irpipe.config.kinds import kinds


def run_python(folder: Path, *arguments: str) -> tuple[float, str]:
    """CPU seconds of a Python command, and what it printed.

    Other work on the machine does not lengthen the CPU time.
    """
    before = os.times()
    # With these, coverage would start first, or each command would compile all that it imports.
    left_out = {"COVERAGE_PROCESS_CONFIG", "PYTHONDONTWRITEBYTECODE"}
    inherited = {key: os.environ[key] for key in os.environ.keys() - left_out}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    user_seconds = after.children_user - before.children_user
    system_seconds = after.children_system - before.children_system
    return user_seconds + system_seconds, done.stdout + done.stderr


@pytest.mark.parametrize("command", [["check"], ["report", "--help"], ["--version"]])
def test_commands_without_torch_start_in_half_a_second(tmp_path: Path, command: list[str]) -> None:
    """Processes on the same core slow each other, so one of ten times counts.

    A processor that cannot do it needs more than 1.7 s to import torch; three tenths are enough.
    """
    seconds = math.inf
    for _ in range(10):
        seconds = min(seconds, run_python(tmp_path, "-m", "irpipe", *command)[0])
        if seconds < 0.5:
            return
    assert seconds < 0.3 * min(run_python(tmp_path, "-c", "import torch")[0] for _ in range(3))


def test_reports_import_no_torch(tmp_path: Path) -> None:
    names = [f"irpipe.reports.{kind}" for kind in kinds("reports")]
    script = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    assert run_python(tmp_path, "-c", script)[1] == "False\n"


def test_no_garbage_is_collected_in_torch(tmp_path: Path) -> None:
    """Torch alone has more objects than that. The collector searches the rest as usual."""
    arguments = [
        "evaluate",
        "--checkpoint",
        "none",
        "--attack",
        "pgd={kind: pgd}",
        "--output",
        "x.h5",
    ]
    script = f"import gc, irpipe.cli; print(irpipe.cli.main({arguments}), gc.get_freeze_count())"
    output = run_python(tmp_path, "-c", f"{script}; print(gc.isenabled())")[1].split()
    assert (output[0], output[2]) == ("2", "True")
    assert int(output[1]) > 200_000


def refuse(*args: object, **options: object) -> None:
    raise ImportError("refused")


def test_garbage_is_collected_if_torch_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match="refused"), monkeypatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        patch.setattr(builtins, "__import__", refuse)
        import_torch()
    assert gc.isenabled()


def test_stress_imports_torch_as_the_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress, "import_torch", refuse)
    with pytest.raises(ImportError, match="refused"):
        run("stress", "--checkpoint", "none", "--attacks", "pgd", "--output", tmp_path)


def test_dry_run_of_the_paper_with_ten_seeds_takes_under_twenty_seconds(tmp_path: Path) -> None:
    """The released networks are empty files, because a dry run does not read them."""
    paper = ROOT / "config/paper.yaml"
    for entry in yaml_reader.read_yaml(paper)["networks"]:
        for file in entry.get("released_files", {}).values():
            (tmp_path / file).touch()
    files = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(paper)]
    options = ["--dry-run", "--cores", "2", "--config", "seeds=10", f"released={tmp_path}"]
    seconds, output = run_python(tmp_path, "-m", "snakemake", *files, *options)
    n_jobs = {
        line.split()[0]: int(line.split()[1])
        for line in output.splitlines()
        if line.startswith(("train ", "total "))
    }
    assert n_jobs["train"] >= 300
    assert n_jobs["total"] > 600
    assert seconds < 20
