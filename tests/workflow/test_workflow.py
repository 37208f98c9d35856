"""The workflow: what runs, what runs again after a change, and what a wrong config does."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from warm_python import programs
from workflow_copy import RECIPE, Project

# The jobs that a change of one method costs, and those that a change of the attack costs.
JOBS_OF_ONE_METHOD = {"train": 1, "evaluate": 1, "table": 1, "figure": 1}
JOBS_OF_THE_ATTACK = {"evaluate": 3, "table": 1, "figure": 1}
INT_METHOD = "src/irpipe/methods/interpretability_aware.py"
INT_RUN = "results/digits/small/int/seed0"
DATA = "results/data/digits.train.json"


def test_all_formats_are_made_and_printed(project: Project) -> None:
    for suffix in ("csv", "parquet", "md", "tex", "html"):
        assert (project.folder / f"results/tables/table_steps.{suffix}").stat().st_size > 100
    (figure,) = project.read("results/figures/figure_eps.png").values()
    assert figure.startswith(b"\x89PNG")
    done = project.make("--forcerun", "table")
    assert "results/tables/table_steps.html" in done.stdout
    # Without this profile, one job that fails would stop all others.
    assert "specific profile profiles/default" in done.stderr


@pytest.mark.parametrize(("options", "free"), [([], sys.maxsize), (["7/1s"], 7)])
def test_only_a_limit_that_a_user_sets_counts_jobs(
    project: Project, options: list[str], free: int
) -> None:
    limit = ["--max-jobs-per-timespan", *options] if options else []
    done = project.make("--verbose", "--forcerun", DATA, *limit, "--", DATA)
    left = re.findall(r"Resources after job selection: .*'_job_count': (\d+)", done.stderr)
    assert set(left) == {str(free)}


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.jobs() == {}
    # The folder of the data decides no number.
    assert project.jobs("--config", "data=/elsewhere", "seeds=1") == {}


def test_comments_and_docstrings_do_nothing(project: Project) -> None:
    project.edit(INT_METHOD, "from typing", "# a comment\nfrom typing")
    project.edit("src/irpipe/attacks/pgd.py", '"""Projected', '"""Of course: projected')
    assert project.jobs() == {}


def test_touched_source_does_nothing(project: Project) -> None:
    for file in (project.folder / "src").rglob("*.py"):
        file.touch()
    assert project.jobs() == {}


def test_touched_data_and_networks_do_nothing(project: Project) -> None:
    (project.folder / DATA).touch()
    (project.folder / INT_RUN / "network.safetensors").touch()
    assert project.jobs() == {}


def test_a_git_checkout_does_nothing(project: Project) -> None:
    # Neither a person's settings nor, within a hook, the variables of another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*command: str) -> None:
        person = ["-c", "user.name=somebody", "-c", "user.email=somebody@localhost"]
        command_line = ["git", *person, *command]
        subprocess.run(
            command_line, cwd=project.folder, env=environment, check=True, capture_output=True
        )

    (project.folder / ".gitignore").write_text("results/\n.snakemake/\n", encoding="utf-8")
    git("init", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--message", "as built")
    git("checkout", "-b", "other")
    project.edit("src/irpipe/ascent/gradient_ascent.py", "import", "import os\nimport")
    git("commit", "--all", "--message", "another")
    # Otherwise the way back proves nothing.
    assert project.jobs()["train"] == 3
    git("checkout", "main")
    assert project.jobs() == {}


def test_a_changed_weight_reruns_that_method_alone(project: Project) -> None:
    project.config["methods"]["int"]["reg_weight"] = 0.02
    assert project.jobs() == JOBS_OF_ONE_METHOD
    project.make()
    assert project.jobs() == {}


def test_the_same_number_in_another_form_does_nothing(project: Project) -> None:
    project.config["methods"]["int"]["reg_weight"] = "1/100"
    assert project.jobs() == {}


def test_changed_code_of_a_method_reruns_that_method_alone(project: Project) -> None:
    project.edit(INT_METHOD, "factor = 0.5 if", "factor = 0.25 if")
    assert project.jobs() == JOBS_OF_ONE_METHOD


def test_changed_code_of_an_attack_reruns_evaluations(project: Project) -> None:
    project.edit("src/irpipe/attacks/pgd.py", "*images.shape)\n", "*images.shape) + 0\n")
    assert project.jobs() == JOBS_OF_THE_ATTACK


def test_a_changed_option_of_an_attack_reruns_evaluations(project: Project) -> None:
    project.config["attacks"]["pgd"]["images"] = 40
    assert project.jobs() == JOBS_OF_THE_ATTACK


def test_proofs_are_checked_against_attacks(project: Project) -> None:
    project.config["attacks"]["certify"] = {"kind": "certify"}
    assert project.jobs() == {}
    project.config["networks"][0]["attacks"].append("certify")
    assert project.jobs() == {"evaluate": 3, "table": 1}


def test_a_changed_title_reruns_that_table(project: Project) -> None:
    project.config["tables"]["steps"]["title"] = "Other steps"
    assert project.jobs() == {"table": 1}


def test_changed_code_of_a_report_reruns_that_report(project: Project) -> None:
    project.edit("src/irpipe/reports/accuracy_curve.py", "import", "import os\nimport")
    assert project.jobs() == {"figure": 1}


def test_a_changed_template_reruns_tables(project: Project) -> None:
    project.edit("src/irpipe/reports/templates/table.md.jinja", "{{ page.title }}", "{{ 1 }}")
    assert project.jobs() == {"table": 1}


def test_another_seed_adds_its_networks(project: Project) -> None:
    project.config["seeds"] = 2
    assert project.jobs() == {"train": 3, "evaluate": 3, "table": 1, "figure": 1}


def test_another_method_adds_its_network(project: Project) -> None:
    project.config["methods"]["int_adv"] = {"kind": "interpretability_aware", "adversarial": True}
    project.config["networks"][0]["methods"].append("int_adv")
    assert project.jobs() == JOBS_OF_ONE_METHOD


def test_another_kind_of_method_is_one_file_and_one_entry(project: Project) -> None:
    methods = project.folder / "src/irpipe/methods"
    shutil.copy(methods / "cross_entropy.py", methods / "mine.py")
    project.config["methods"]["mine"] = {"kind": "mine", "adversarial": True}
    project.config["networks"][0]["methods"].append("mine")
    assert project.jobs() == JOBS_OF_ONE_METHOD
    project.make()
    (table,) = project.read("results/tables/table_steps.csv").values()
    assert b",mine," in table


def test_code_that_changed_while_a_job_waited_is_refused(project: Project) -> None:
    network = ["--checkpoint", f"{INT_RUN}/network.safetensors"]
    options = ["--attack", "pgd", "--code", "0123456789ab", "--output", "x.h5"]
    command = [programs() / "irpipe", "evaluate", *network, *options]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the code is now" in done.stderr
    assert not (project.folder / "x.h5").exists()


def test_touch_accepts_what_is_there(project: Project) -> None:
    project.config["methods"]["int"]["reg_weight"] = 0.02
    project.make("--touch")
    assert project.jobs() == {}


def test_a_killed_snakemake_goes_on_after_unlock(project: Project) -> None:
    """It leaves a stale lock, markers of incomplete files and half a file."""
    network = project.folder / INT_RUN / "network.safetensors"
    irpipe = project.folder / "bin/irpipe"
    irpipe.parent.mkdir()
    script = f"#!/bin/sh\necho started; echo half > {shlex.quote(str(network))}; exec sleep 60\n"
    irpipe.write_text(script, encoding="utf-8")
    irpipe.chmod(0o755)
    project.config["methods"]["int"]["reg_weight"] = 0.02
    process = project.start()
    for _ in range(600):
        if network.exists() and network.read_bytes() == b"half\n":
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    irpipe.unlink()
    done = project.snakemake()
    assert done.returncode
    assert "--unlock" in done.stderr
    assert network.read_bytes() == b"half\n"
    project.make("--unlock")
    project.make()
    assert network.stat().st_size > 1000
    assert project.jobs() == {}


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "methods",
            {"int": {"kind": "interpretability_aware", "reg_wieght": 1}},
            "methods.int.reg_wieght: no option 'reg_wieght'",
        ),
        (
            "methods",
            {"int": {"kind": "interpretability_awar"}},
            "did you mean 'interpretability_aware'?",
        ),
        (
            "attacks",
            {"pgd": {"kind": "pgd", "eps": "abc"}},
            "attacks.pgd.eps.0: not a number",
        ),
        (
            "attacks",
            {"pgd": {"kind": "pgd", "steps": [-1]}},
            "attacks.pgd.steps.0: input should be greater",
        ),
        ("recipes", {"short": RECIPE | {"inner_step_size": "5e-4"}}, "5.0e-4"),
    ],
)
def test_a_wrong_config_ends_in_one_line(
    project: Project, section: str, change: dict[str, Any], message: str
) -> None:
    project.config[section] |= change
    done = project.snakemake("--dry-run")
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("irpipe: error: "))
    assert message in line


def test_an_unknown_section_is_refused(project: Project) -> None:
    project.config["atacks"] = {}
    done = project.snakemake("--dry-run")
    assert done.returncode == 2
    assert "config.atacks: unknown key" in done.stderr


def test_only_the_selected_networks_are_attacked(project: Project) -> None:
    project.config["only"] = "digits/small/int"
    jobs = project.jobs("--forceall")
    assert jobs["train"] == jobs["evaluate"] == 1
    assert jobs["table"] == jobs["figure"] == 1


def test_another_config_replaces_the_first(project: Project) -> None:
    other = {key: value for key, value in project.config.items() if key != "tables"}
    (project.folder / "other.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    done = project.make("--dry-run", "--forceall", "--configfile", "other.yaml")
    assert "rule figure" in done.stdout + done.stderr
    assert "rule table" not in done.stdout + done.stderr
