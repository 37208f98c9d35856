"""docs/own_code.md: a workflow with code of its own uses ours, and nothing runs twice."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from made_once import made_once
from warm_python import programs
from workflow_copy import ROOT

from irpipe.results.result import read_result

TEXT = (ROOT / "docs" / "own_code.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+)`[^`]*?:\n\n```\w+\n(.*?)^```$", TEXT, re.M | re.S))
COMMAND = re.findall(r"^```bash\n(.*?)\n```$", TEXT, re.M | re.S)[0]
RESULTS = Path("robust/results")
ALL_JOBS = {
    "check_data": 2,
    "train": 2,
    "evaluate": 3,
    "evaluate_external": 1,
    "table": 2,
}


def snakemake(folder: Path, *options: str) -> str:
    """What the command of the page prints. It must end without an error."""
    command = [programs() / "python", "-m", *COMMAND.split(), *options]
    path = f"{programs()}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, in which the command was run."""

    def make(folder: Path) -> None:
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("PATH/", f"{ROOT}/"), encoding="utf-8")
        snakemake(folder)

    return made_once(tmp_path_factory, "theirs", make)


def jobs_after(folder: Path, name: str, old: str, new: str) -> Counter[str]:
    """Number of jobs, by rule, that are to run after a change of a file."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    output = snakemake(folder, "--dry-run")
    rules = re.findall(r"^ *(?:local)?rule (\w+):", output, re.M)
    return Counter(rule.removeprefix("robust_") for rule in rules if rule != "theirs")


def test_every_file_of_the_page_is_found() -> None:
    assert sorted(FILES) == [
        "Snakefile",
        *sorted(
            f"mine/{name}.py"
            for name in ("distance", "grey", "nets", "smooth", "tiny", "turned", "worst_class")
        ),
        "theirs.yaml",
    ]


def test_both_tables_have_all_networks(made: Path) -> None:
    frame = pd.read_csv(made / RESULTS / "tables" / "table_grey.csv")
    networks = set(zip(frame.model, frame.method, frame.run, strict=True))
    worst = pd.read_csv(made / RESULTS / "tables" / "table_worst.csv")
    assert networks == set(zip(worst.model, worst.method, worst.run, strict=True))
    assert networks == {
        ("small", "adv", "seed0"),
        ("tiny", "smooth", "seed0"),
        ("own", "linear", "external"),
    }


def test_everything_lies_below_the_prefix(made: Path) -> None:
    assert not (made / "results").exists()
    transfer = read_result(made / RESULTS / "turned/tiny/smooth/seed0/transfer.h5")
    surrogate = "robust/results/turned/small/adv/seed0/network.safetensors"
    assert transfer.attrs["options"]["surrogates"] == [surrogate]
    assert len(list((made / RESULTS / "state").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "old", "new", "jobs"),
    [
        ("mine/distance.py", "square()", "abs()", {"train": 1, "evaluate": 2, "table": 2}),
        ("mine/tiny.py", "8, 5", "8, 7", {"train": 1, "evaluate": 2, "table": 2}),
        ("mine/grey.py", "0.5 -", "0.4 -", {"evaluate": 2, "evaluate_external": 1, "table": 2}),
        ("mine/nets.py", "seed(0)", "seed(1)", {"evaluate_external": 1, "table": 2}),
        ("mine/turned.py", "-2, -1", "-1", ALL_JOBS),
        ("mine/worst_class.py", ".min()", ".max()", {"table": 1}),
        ("mine/nets.py", "A linear", "One linear", {}),  # a docstring
    ],
)
def test_a_changed_file_repeats_its_own_jobs(
    name: str, old: str, new: str, jobs: dict[str, int], made: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made, tmp_path / "theirs", symlinks=True)
    assert jobs_after(folder, name, old, new) == jobs
