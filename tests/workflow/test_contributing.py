"""CONTRIBUTING.md: its examples work exactly as they are printed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from made_once import made_once
from warm_python import programs
from workflow_copy import ROOT, copy_project

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FENCE = re.compile(
    r"(?:^`(?P<path>\S+)`:\n\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
FOLDERS = ["src/irpipe/methods", "src/irpipe/attacks", "src/irpipe/datasets", "src/irpipe/reports"]


class Block(NamedTuple):
    """A fenced block, with the path in the line above it, if any."""

    path: str
    language: str
    text: str


BLOCKS = [
    Block(match["path"] or "", match["language"], match["text"]) for match in FENCE.finditer(TEXT)
]
FILES = [block for block in BLOCKS if block.path]
COMMANDS = [block.text for block in BLOCKS if block.language == "bash"]


def write_files(folder: Path) -> None:
    for block in FILES:
        path = folder / block.path
        assert not path.exists(), f"{block.path} would overwrite a file of the project"
        path.write_text(block.text, encoding="utf-8")


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{programs()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder / "src")}
    is_shell = isinstance(command, str)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=is_shell,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the files were written and the commands were run."""

    def make(folder: Path) -> None:
        project = copy_project(folder / "irpipe").folder
        write_files(project)
        for command in COMMANDS:
            result = run(command, project)
            assert result.returncode == 0, result.stderr

    return made_once(tmp_path_factory, "guide", make) / "irpipe"


def test_no_block_is_left_out() -> None:
    """All blocks are files, commands or the one picture; there is a file for each registry."""
    assert TEXT.count("\n```") == 2 * len(BLOCKS)
    assert [Path(block.path).parent.as_posix() for block in FILES] == [*FOLDERS, "."]
    assert len(COMMANDS) == 1
    assert len(BLOCKS) == len(FILES) + len(COMMANDS) + 1
    assert [block.language for block in BLOCKS if not block.path] == ["text", "bash"]


def test_the_example_makes_its_table(made: Path) -> None:
    frame = pd.read_csv(made / "results/tables/table_classes.csv")
    assert frame.groupby("eps").n.sum().tolist() == [100, 100, 100]
    assert frame[frame.eps == 0].accuracy.min() > 0.9, "the network has learned the two classes"
    page = (made / "results/tables/table_classes.html").read_text(encoding="utf-8")
    assert "Accuracy of each class" in page


def test_the_example_is_written_as_we_write(made: Path) -> None:
    paths = [block.path for block in FILES if block.language == "python"]
    for command in (["check"], ["format", "--check"]):
        config = ["--config", str(ROOT / "pyproject.toml")]
        result = run([sys.executable, "-m", "ruff", *command, *config, *paths], made)
        assert result.returncode == 0, result.stdout + result.stderr


def test_a_changed_method_repeats_what_depends_on_it_and_nothing_else(made: Path) -> None:
    text = (made / "mine.yaml").read_text(encoding="utf-8")
    changed = text.replace("reg_weight: 0.2", "reg_weight: 0.3")
    assert changed != text
    (made / "changed.yaml").write_text(changed, encoding="utf-8")
    command = COMMANDS[0].strip().replace("mine.yaml", "changed.yaml")
    dry_run = run(f"{command} --dry-run", made)
    assert dry_run.returncode == 0, dry_run.stderr
    rules = re.findall(r"^ *(?:local)?rule (\w+):", dry_run.stdout, re.M)
    assert sorted(rules) == ["evaluate", "everything", "table", "train"]
