"""A copy of the project with a small config, for tests that run the workflow in it."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from warm_python import programs

ROOT = Path(__file__).resolve().parents[1]
RECIPE: dict[str, Any] = {
    "batch_size": 50,
    "epochs": 1,
    "lr": [[0, 0.001]],
    "eps_schedule": [[0, 1]],
    "inner_steps": 1,
    "inner_step_size": 0.1,
}
CONFIG: dict[str, Any] = {
    "datasets": {"digits": {"kind": "digits"}},
    "methods": {
        "normal": {"kind": "cross_entropy", "adversarial": False},
        "adv": {"kind": "cross_entropy", "adversarial": True},
        "int": {"kind": "interpretability_aware", "reg_weight": 0.01},
    },
    "recipes": {"short": RECIPE},
    "attacks": {"pgd": {"kind": "pgd", "steps": [1, 2], "images": 50}},
    "networks": [
        {
            "dataset": "digits",
            "model": "small",
            "methods": ["normal", "adv", "int"],
            "recipe": "short",
            "attacks": ["pgd"],
        }
    ],
    "tables": {"steps": {"kind": "accuracy_table", "title": "Steps", "sweep": "steps"}},
    "figures": {"eps": {"kind": "accuracy_curve", "title": "Eps", "sweep": "eps", "steps": 2}},
}
# Rules that only collect the outputs of others.
TARGET_RULES = {"all", "everything"}


class Project:
    """A copy of the project in a folder, in which snakemake runs with `config`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = yaml.safe_load(yaml.safe_dump(CONFIG))

    def copy(self, folder: Path) -> "Project":
        """A copy in a new folder, with metadata and times, to change; its config is CONFIG."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start snakemake in a process group of its own."""
        config = yaml.safe_dump(self.config)
        (self.folder / "config" / "config.yaml").write_text(config, encoding="utf-8")
        path = f"{self.folder / 'bin'}:{programs()}:{os.environ['PATH']}"
        return subprocess.Popen(
            [programs() / "python", "-m", "snakemake", "--cores", "2", *options],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src"), "PATH": path},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake to its end."""
        process = self.start(*options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def make(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake to its end, which must be without an error."""
        done = self.snakemake(*options)
        assert done.returncode == 0, done.stderr
        return done

    def jobs(self, *options: str) -> Counter[str]:
        """Number of jobs that snakemake would run, by rule."""
        done = self.make("--dry-run", *options)
        # The lines of grouped jobs are indented.
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
        rules = [
            line.split()[1].rstrip(":")
            for line in lines
            if line.startswith(("rule ", "localrule "))
        ]
        return Counter(rule for rule in rules if rule not in TARGET_RULES)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace the first `old` in a file, which must be there."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} no longer holds {old!r}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def read(self, *paths: str) -> dict[str, bytes]:
        """Path -> content of files of the project."""
        return {path: (self.folder / path).read_bytes() for path in paths}


def copy_project(target: Path) -> Project:
    """Copy the project, without tests and documents."""
    for part in ("src", "workflow", "config", "profiles"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / file, target / file)
    return Project(target)


def path_with_fake_irpipe(folder: Path) -> str:
    """A PATH on which `irpipe` is `fake_irpipe.py`. The command is made in `folder`."""
    irpipe = folder / "irpipe"
    folder.mkdir()
    script = (ROOT / "tests" / "fake_irpipe.py").read_text(encoding="utf-8")
    irpipe.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    irpipe.chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
