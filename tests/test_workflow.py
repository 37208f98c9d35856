"""The workflow: what runs, what runs again after a change, and what a wrong config does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from project import RECIPE, Project

ROOT = Path(__file__).resolve().parents[1]
CHAIN = {"train": 1, "evaluate": 1, "table": 1, "figure": 1}  # what one method's change costs


def test_makes_all_formats_and_prints_where(project: Project) -> None:
    for suffix in ("csv", "md", "tex", "html"):
        assert (project.folder / f"results/tables/table_steps.{suffix}").stat().st_size > 100
    assert (project.folder / "results/figures/figure_radius.png").read_bytes().startswith(b"\x89PNG")
    run = project.snakemake("--forcerun", "table")
    assert "results/tables/table_steps.html" in run.stdout
    assert "specific profile profiles/default" in run.stderr  # else one failing job would stop all others


def test_second_run_does_nothing(project: Project) -> None:
    assert project.jobs() == {}
    assert project.jobs("--config", "data=/elsewhere", "seeds=1") == {}  # where data lie decides no number


def test_comment_and_docstring_do_nothing(project: Project) -> None:
    project.edit("src/irpipe/methods/interp.py", "from typing", "# a comment\nfrom typing")
    project.edit("src/irpipe/attacks/pgd.py", '"""Projected', '"""Of course: projected')
    assert project.jobs() == {}


def test_touched_source_does_nothing(project: Project) -> None:
    for file in (project.folder / "src").rglob("*.py"):
        file.touch()
    assert project.jobs() == {}


def test_touched_data_and_network_do_nothing(project: Project) -> None:
    (project.folder / "results/data/digits.train.json").touch()
    (project.folder / "results/digits/small/int/seed0/network.safetensors").touch()
    assert project.jobs() == {}


def test_git_checkout_does_nothing(project: Project) -> None:
    def git(*command: str) -> None:
        person = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
        subprocess.run(["git", *person, *command], cwd=project.folder, check=True, capture_output=True)

    (project.folder / ".gitignore").write_text("results/\n.snakemake/\n")
    git("init", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--message", "as built")
    git("checkout", "-b", "other")
    project.edit("src/irpipe/ascent.py", "import", "import os\nimport")
    git("commit", "--all", "--message", "another")
    assert project.jobs()["train"] == 3  # else the way back proves nothing
    git("checkout", "main")
    assert project.jobs() == {}


def test_changed_weight_reruns_that_method_alone(project: Project) -> None:
    project.config["methods"]["int"]["weight"] = 0.02
    assert project.jobs() == CHAIN
    assert project.snakemake().returncode == 0
    assert project.jobs() == {}


def test_same_number_written_otherwise_does_nothing(project: Project) -> None:
    project.config["methods"]["int"]["weight"] = "1/100"
    assert project.jobs() == {}


def test_changed_method_code_reruns_that_method_alone(project: Project) -> None:
    project.edit("src/irpipe/methods/interp.py", "factor = 0.5 if halved", "factor = 0.25 if halved")
    assert project.jobs() == CHAIN


def test_changed_attack_reruns_evaluations(project: Project) -> None:
    project.edit("src/irpipe/attacks/pgd.py", "*case.images.shape)\n", "*case.images.shape) + 0\n")
    assert project.jobs() == {"evaluate": 3, "table": 1, "figure": 1}


def test_changed_option_of_an_attack_reruns_evaluations(project: Project) -> None:
    project.config["attacks"]["pgd"]["images"] = 40
    assert project.jobs() == {"evaluate": 3, "table": 1, "figure": 1}


def test_changed_title_reruns_that_table(project: Project) -> None:
    project.config["tables"]["steps"]["title"] = "Other steps"
    assert project.jobs() == {"table": 1}


def test_changed_report_reruns_that_report(project: Project) -> None:
    project.edit("src/irpipe/reports/curve.py", "import", "import os\nimport")
    assert project.jobs() == {"figure": 1}


def test_new_seed_adds_its_networks(project: Project) -> None:
    project.config["seeds"] = 2
    assert project.jobs() == {"train": 3, "evaluate": 3, "table": 1, "figure": 1}


def test_new_method_adds_its_network(project: Project) -> None:
    project.config["methods"]["int_adv"] = {"kind": "interp", "adversarial": True}
    project.config["networks"][0]["methods"].append("int_adv")
    assert project.jobs() == CHAIN


def test_the_method_of_the_guide_is_one_file_and_one_line(project: Project) -> None:
    """The example of CONTRIBUTING.md works as it stands there, and trains nothing else."""
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    (project.folder / "src/irpipe/methods/smooth.py").write_text(guide.split("```python\n")[1].split("```")[0])
    project.config["methods"]["smooth"] = {"kind": "smooth", "weight": 0.2}
    project.config["networks"][0]["methods"].append("smooth")
    assert project.jobs() == CHAIN
    run = project.snakemake()
    assert run.returncode == 0, run.stderr
    assert "smooth" in (project.folder / "results/tables/table_steps.csv").read_text()


def test_code_that_changed_while_a_job_waited_is_refused(project: Project) -> None:
    checkpoint = "results/digits/small/int/seed0/network.safetensors"
    command = ["evaluate", "--checkpoint", checkpoint, "--attack", "pgd", "--code", "0123456789ab", "--output", "x.h5"]
    run = subprocess.run(
        [sys.executable, "-m", "irpipe", *command], cwd=project.folder, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "the code is now" in run.stderr
    assert not (project.folder / "x.h5").exists()


def test_touch_accepts_what_is_there(project: Project) -> None:
    project.config["methods"]["int"]["weight"] = 0.02
    assert project.snakemake("--touch").returncode == 0
    assert project.jobs() == {}


def test_killed_snakemake_goes_on_after_unlock(project: Project) -> None:
    """A stale lock, markers of incomplete files and half a file: unlocked, the same command does the rest."""
    network = project.folder / "results/digits/small/int/seed0/network.safetensors"
    irpipe = project.folder / "bin/irpipe"
    irpipe.parent.mkdir()
    irpipe.write_text(f"#!/bin/sh\necho started; echo half > {network}; exec sleep 60\n")
    irpipe.chmod(0o755)
    project.config["methods"]["int"]["weight"] = 0.02
    run = project.start()
    for _ in range(600):
        if network.exists() and network.read_text(errors="replace") == "half\n":
            break
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    irpipe.unlink()
    again = project.snakemake()
    assert again.returncode
    assert "--unlock" in again.stderr
    assert network.read_text() == "half\n"
    assert project.snakemake("--unlock").returncode == 0
    again = project.snakemake()
    assert again.returncode == 0, again.stderr
    assert network.stat().st_size > 1000
    assert project.jobs() == {}


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("methods", {"int": {"kind": "interp", "wieght": 1}}, "methods.int.wieght: no option 'wieght'"),
        ("methods", {"int": {"kind": "intrep"}}, "did you mean 'interp'?"),
        ("attacks", {"pgd": {"kind": "pgd", "eps": "abc"}}, "attacks.pgd.eps.0: not a number"),
        ("attacks", {"pgd": {"kind": "pgd", "steps": [-1]}}, "attacks.pgd.steps.0: input should be greater"),
        ("recipes", {"short": RECIPE | {"step_size": "5e-4"}}, "5.0e-4"),
    ],
)
def test_wrong_config_ends_in_one_line(project: Project, section: str, change: dict[str, object], message: str) -> None:
    project.config[section] |= change
    run = project.snakemake("--dry-run")
    assert run.returncode == 2
    lines = [line for line in run.stderr.splitlines() if line.startswith("irpipe: error: ")]
    assert len(lines) == 1
    assert message in lines[0]


def test_unknown_section_is_refused(project: Project) -> None:
    project.config["atacks"] = {}
    run = project.snakemake("--dry-run")
    assert run.returncode == 2
    assert "config.atacks: unknown key" in run.stderr


def test_configs_replace_each_other(project: Project) -> None:
    other = yaml.safe_dump({key: value for key, value in project.config.items() if key != "tables"})
    (project.folder / "other.yaml").write_text(other)
    run = project.snakemake("--dry-run", "--forceall", "--configfile", "other.yaml")
    assert "rule figure" in run.stdout + run.stderr
    assert "rule table" not in run.stdout + run.stderr
