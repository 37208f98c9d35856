"""README and docs/: commands have the options that they are printed with, and the example runs."""

import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from warm_python import programs
from workflow_copy import ROOT

from irpipe.cli import _parser

README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "config/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CODE = re.compile(r"^```bash\n(.*?)^```$|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
SUBSTITUTION = re.compile(r"\$\([^)]*\)")  # $(command)


def commands(path: Path, program: str) -> list[list[str]]:
    """All calls of a program in a page, in blocks and in the text, without their comments."""
    calls = []
    for block, inline in CODE.findall(path.read_text(encoding="utf-8")):
        for line in (block or inline).replace("\\\n", " ").splitlines():
            for command in re.split(" && ", line):
                if command.startswith(f"{program} "):
                    calls.append(shlex.split(SUBSTITUTION.sub("FILE", command), comments=True))
    return calls


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_irpipe_takes_the_options_that_are_printed(path: Path) -> None:
    for _, command, *arguments in commands(path, "irpipe"):
        if command.isalpha() and command != "COMMAND" and arguments:
            _parser().parse_args([command, *arguments])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_make_has_the_targets_and_snakemake_the_configs(path: Path) -> None:
    targets = re.findall(
        r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {command[1] for command in commands(path, "make")} <= set(targets)
    for arguments in commands(path, "snakemake"):
        for option, value in itertools.pairwise(arguments):
            if option in {"--configfile", "--workflow-profile"} and "/" in value:
                assert (ROOT / value).exists(), value


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_snakemake_is_given_its_targets_first(path: Path) -> None:
    """Snakemake takes a target after --configfile or --config for a config or a key of one."""
    text = path.read_text(encoding="utf-8")
    inline = [" ".join(code.split()) for code in re.findall(r"`(snakemake [^`]+)`", text)]
    for arguments in [*commands(path, "snakemake"), *map(shlex.split, inline)]:
        if "--config" in arguments:
            values = arguments[arguments.index("--config") + 1 :]
            of_config = itertools.takewhile(lambda value: not value.startswith("-"), values)
            assert all("=" in value for value in of_config), arguments
        if "--configfile" in arguments:
            after = arguments[arguments.index("--configfile") + 2 :]
            assert not after or after[0].startswith("-") or after[0] == "...", arguments


def test_most_commands_are_seen() -> None:
    assert len(commands(README, "irpipe")) > 12
    assert len(commands(README, "make")) >= 6
    assert len(commands(README, "snakemake")) >= 4


def test_the_example_of_readme_runs(built: Path) -> None:
    """In the folder of a project whose attacks end at 2 steps, not at 200."""
    (example,) = re.findall(
        r"^```python\n(from irpipe.*?)^```$",
        README.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert len([line for line in example.splitlines() if line]) == 5
    environment = os.environ | {"PYTHONPATH": str(built / "src")}
    run = subprocess.run(
        [programs() / "python", "-c", example.replace("200", "2")],
        cwd=built,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("normal") == 2, "once in each of the two tables"
