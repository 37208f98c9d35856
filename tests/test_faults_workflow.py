"""Damaged outputs in a whole project: named, removed, made again to the same bytes; nothing is shown from them."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from project import Project

from irpipe.cli import main

RUN = "results/digits/small/int/seed0"
SEALED = [f"{RUN}/network.safetensors", f"{RUN}/network.csv", f"{RUN}/pgd.h5", "results/data/digits.test.json"]
SHOWN = [
    *(f"results/tables/table_steps.{suffix}" for suffix in ("csv", "md", "tex", "html", "sha256")),
    *(f"results/figures/figure_radius.{suffix}" for suffix in ("png", "pdf", "svg", "sha256")),
]

RECOVERIES = int(os.environ.get("IRPIPE_RECOVERIES", "1"))
Whole = tuple[dict[str, bytes], float]


def changed(folder: Path) -> Project:
    """The project, with something left to do: train, attack, and show what came out."""
    project = Project(folder)
    project.config["methods"]["int"]["weight"] = 0.02
    return project


def made(project: Project) -> dict[str, bytes]:
    return {
        path: (project.folder / path).read_bytes() for path in (*SEALED, *SHOWN) if not path.endswith("network.csv")
    }


@pytest.fixture(scope="module")
def whole(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What an uninterrupted run makes, and its seconds."""
    folder = tmp_path_factory.mktemp("whole") / "irpipe"
    shutil.copytree(built, folder, symlinks=True)
    project, begin = changed(folder), time.monotonic()
    run = project.snakemake()
    assert run.returncode == 0, run.stderr
    return made(project), time.monotonic() - begin


@pytest.mark.parametrize("case", range(RECOVERIES))
def test_snakemake_killed_at_any_time_recovers_by_one_command(project: Project, whole: Whole, case: int) -> None:
    project = changed(project.folder)
    expected, seconds = whole
    run = project.start()
    time.sleep(random.Random(case).uniform(0.1, 1) * seconds)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert project.snakemake("--unlock").returncode == 0
    again = project.snakemake()
    assert again.returncode == 0, again.stderr
    assert made(project) == expected
    assert project.jobs() == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_outputs_are_made_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    results = project.folder / "results"
    before = {path: (project.folder / path).read_bytes() for path in (*SEALED, *SHOWN)}
    assert main(["verify", str(results)]) == 0
    assert capsys.readouterr().out == f"{results}: all whole\n"
    damaged = [path for path in before if not path.endswith(".sha256")]
    for path in damaged:
        cut(project.folder / path)
    assert main(["verify", str(results)]) == 2
    said = capsys.readouterr()
    assert {line.split(": ")[0] for line in said.out.splitlines()} == {str(project.folder / path) for path in damaged}
    assert said.err.endswith(f"{len(damaged)} damaged; remove them with --remove, then run the workflow\n")
    assert project.snakemake().returncode  # what is newer than a table is read for it, and refused
    assert main(["verify", str(results), "--remove"]) == 0
    assert not any((project.folder / path).exists() for path in damaged)
    run = project.snakemake()
    assert run.returncode == 0, run.stderr
    after = {path: (project.folder / path).read_bytes() for path in before}
    assert [path for path in before if after[path] != before[path]] == [f"{RUN}/network.csv"]  # it tells the seconds


def test_damaged_seals_are_made_again(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    seals = [project.folder / path for path in SHOWN if path.endswith(".sha256")]
    before = {path: (project.folder / path).read_bytes() for path in SHOWN}
    for path in seals:
        cut(path)
    assert main(["verify", str(project.folder / "results"), "--remove"]) == 0
    assert {line.split(": ")[0] for line in capsys.readouterr().out.splitlines()[:-1]} == set(map(str, seals))
    assert project.jobs() == {"table": 1, "figure": 1}
    assert project.snakemake().returncode == 0
    assert {path: (project.folder / path).read_bytes() for path in SHOWN} == before


def test_the_report_page_shows_whole_files_only() -> None:
    root = Path(__file__).parents[1]
    command = ["make", "--no-print-directory", "--dry-run", "report"]  # which `make test` would be told of
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    made, checked, shown = run.stdout.splitlines()[-3:]
    assert made.startswith("snakemake benchmarks --cores all")
    assert checked == "irpipe verify results"
    assert "--report results/report.html" in shown


def test_verify_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path / 'none'}: no such folder; expected one of results\n")
