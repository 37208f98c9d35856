"""Damaged outputs in a complete project: named, removed, and made again to the same bytes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import run
from made_once import made_once
from workflow_copy import ROOT, Project

# Kills of snakemake. `make test-faults` asks for 20.
N_KILLS = int(os.environ.get("IRPIPE_RECOVERIES", "1"))
RUN = "results/digits/small/int/seed0"
# It has the seconds of each epoch, so its bytes differ from run to run.
TRAINING_LOG = f"{RUN}/training_log.csv"
OUTPUTS = [
    f"{RUN}/network.safetensors",
    TRAINING_LOG,
    f"{RUN}/pgd.h5",
    "results/data/digits.test.json",
]
TABLES_AND_FIGURES = [
    *(f"results/tables/table_steps.{suffix}" for suffix in ("csv", "parquet", "md", "tex", "html")),
    *(f"results/figures/figure_eps.{suffix}" for suffix in ("png", "pdf", "svg")),
]
CHECKSUM_FILES = ["results/tables/table_steps.sha256", "results/figures/figure_eps.sha256"]
EVERYTHING = [*OUTPUTS, *TABLES_AND_FIGURES, *CHECKSUM_FILES]
REPRODUCIBLE = [path for path in EVERYTHING if path != TRAINING_LOG]


class CompleteRun(NamedTuple):
    """The files of an uninterrupted run, and its seconds."""

    files: dict[str, bytes]
    seconds: float


def with_changed_method(project: Project) -> Project:
    """The project, with a network to train, to attack and to show."""
    project.config["methods"]["int"]["reg_weight"] = 0.02
    return project


@pytest.fixture(scope="module")
def complete_run(built: Path, tmp_path_factory: pytest.TempPathFactory) -> CompleteRun:
    def make(folder: Path) -> None:
        project = with_changed_method(Project(built).copy(folder / "irpipe"))
        begin = time.monotonic()
        project.make()
        (folder / "seconds").write_text(str(time.monotonic() - begin), encoding="utf-8")

    folder = made_once(tmp_path_factory, "complete", make)
    seconds = float((folder / "seconds").read_text(encoding="utf-8"))
    return CompleteRun(Project(folder / "irpipe").read(*REPRODUCIBLE), seconds)


@pytest.mark.parametrize("seed", range(N_KILLS))
def test_snakemake_killed_at_any_time_recovers_by_one_command(
    project: Project, complete_run: CompleteRun, seed: int
) -> None:
    project = with_changed_method(project)
    process = project.start()
    time.sleep(random.Random(seed).uniform(0.1, 1) * complete_run.seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.make("--unlock")
    project.make()
    assert project.read(*REPRODUCIBLE) == complete_run.files
    assert project.jobs() == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def paths_named_in(text: str) -> set[str]:
    """What stands before the first colon of each line."""
    return {line.split(": ")[0] for line in text.splitlines()}


def test_damaged_outputs_are_made_again(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    results = project.folder / "results"
    before = project.read(*EVERYTHING)
    assert run("verify", results) == 0
    assert capsys.readouterr().out == f"{results}: nothing is damaged\n"
    damaged = {str(project.folder / path) for path in (*OUTPUTS, *TABLES_AND_FIGURES)}
    for path in damaged:
        cut(Path(path))
    assert run("verify", results) == 2
    printed = capsys.readouterr()
    assert paths_named_in(printed.out) == damaged
    advice = "remove them with --remove, then run the workflow"
    assert printed.err.endswith(f"{len(damaged)} damaged; {advice}\n")
    # The results are newer than the table now, so snakemake reads them again; they are refused.
    assert project.snakemake().returncode
    assert run("verify", results, "--remove") == 0
    assert not any(Path(path).exists() for path in damaged)
    project.make()
    after = project.read(*EVERYTHING)
    assert [path for path in EVERYTHING if after[path] != before[path]] == [TRAINING_LOG]


def test_damaged_checksum_files_lead_to_new_outputs(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [*TABLES_AND_FIGURES, *CHECKSUM_FILES]
    before = project.read(*paths)
    damaged = {str(project.folder / path) for path in CHECKSUM_FILES}
    for path in damaged:
        cut(Path(path))
    assert run("verify", project.folder / "results", "--remove") == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    assert paths_named_in("\n".join(lines)) == damaged
    assert project.jobs() == {"table": 1, "figure": 1}
    project.make()
    assert project.read(*paths) == before


def test_the_report_page_is_made_after_a_check_of_all_outputs() -> None:
    # The option keeps `make` from a line about its folder when `make test` calls it.
    command = ["make", "--no-print-directory", "--dry-run", "report"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    make_outputs, check_outputs, make_page = done.stdout.splitlines()[-3:]
    assert make_outputs.startswith("snakemake --logger irpipe --cores all")
    assert check_outputs == "irpipe verify results"
    assert make_page.startswith("snakemake page --logger irpipe --cores all")


def test_verify_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "none"
    assert run("verify", folder) == 2
    message = f"{folder}: no such folder; expected a folder of results\n"
    assert capsys.readouterr().err.endswith(message)
