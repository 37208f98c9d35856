"""A copy of the project with a small config, for tests that run the workflow in it."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPE = {"batch": 50, "epochs": 1, "rate": [[0, 0.001]], "ramp": [[0, 1]], "steps": 1, "step_size": 0.1}
CONFIG = {
    "datasets": {"digits": {"kind": "digits"}},
    "methods": {
        "normal": {"kind": "standard", "attacked": False},
        "adv": {"kind": "standard", "attacked": True},
        "int": {"kind": "interp", "weight": 0.01},
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
    "tables": {"steps": {"kind": "table", "title": "Steps", "over": "steps"}},
    "figures": {"radius": {"kind": "curve", "title": "Radius", "over": "eps", "steps": 2}},
}


class Project:
    """A copy of the project with a small config, in which snakemake runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = yaml.safe_load(yaml.safe_dump(CONFIG))

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start snakemake in a process group of its own."""
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(self.config))
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        source = {"PYTHONPATH": str(self.folder / "src"), "PATH": path}
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=os.environ | source, start_new_session=True, **pipes)

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        run = self.start(*options)
        out, err = run.communicate()
        return subprocess.CompletedProcess(run.args, run.returncode, out, err)

    def jobs(self, *options: str) -> Counter[str]:
        """Jobs of a dry run by rule, without the targets that only collect."""
        run = self.snakemake("--dry-run", *options)
        assert run.returncode == 0, run.stderr + run.stdout
        lines = [line.strip() for line in (run.stdout + run.stderr).splitlines()]  # those of groups are set in
        rules = [line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))]
        return Counter(rule for rule in rules if rule not in {"all", "everything"})

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} no longer holds {old!r}"
        file.write_text(text.replace(old, new, 1))


def copied(target: Path) -> Project:
    for part in ("src", "workflow", "config", "profiles"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / file, target / file)
    return Project(target)


def pretended(folder: Path) -> str:
    """PATH on which irpipe is `pretend.py`, put into a folder."""
    irpipe = folder / "irpipe"
    folder.mkdir()
    irpipe.write_text(f"#!{sys.executable}\n{(ROOT / 'tests' / 'pretend.py').read_text()}")
    irpipe.chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
