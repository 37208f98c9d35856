"""Text is UTF-8 wherever it is read or written, whatever the locale's encoding is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from workflow_copy import ROOT

from irpipe import code_hash
from irpipe.config.kinds import kinds

# Python neither leaves the C locale nor turns UTF-8 on by itself: open() reads ASCII.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
TEXT_FUNCTIONS = {"open", "read_text", "write_text", "fdopen", "TextIOWrapper"}
SOURCES = [path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
TITLE = "Größe ≥ ε"
# One process, because each would import torch anew.
SEVERAL_COMMANDS = """
import itertools, sys
from irpipe.cli import main
for ends, words in itertools.groupby(sys.argv[1:], "THEN".__eq__):
    assert ends or main(list(words)) == 0
"""


def run_in_ascii(*command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run Python in the C locale."""
    environment = os.environ | ASCII | {"PYTHONPATH": str(ROOT / "src")}
    python = [sys.executable, *command]
    return subprocess.run(python, cwd=cwd, env=environment, capture_output=True, check=False)


def is_text_without_encoding(call: ast.Call) -> bool:
    """Whether a call opens text, or decodes the output of a process, in the locale's encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if keywords.get("text") == "True" or "universal_newlines" in keywords:
        return True
    values = [ast.unparse(argument) for argument in call.args] + [keywords.get("mode", "")]
    is_binary = any(value.strip("'") in ("rb", "wb", "rb+", "r+b", "ab") for value in values)
    return name in TEXT_FUNCTIONS and not is_binary and ast.unparse(call.func) != "Image.open"


def test_no_call_takes_the_encoding_of_the_locale() -> None:
    """The linter's rule finds those calls whose object it knows to be a path; this finds all."""
    found = [
        f"{path}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and is_text_without_encoding(node)
    ]
    assert found == []
    for source in ("open('x')", "Path('x').read_text()", "run(command, text=True)"):
        (statement,) = ast.parse(source).body
        assert isinstance(statement, ast.Expr)
        assert isinstance(statement.value, ast.Call)
        assert is_text_without_encoding(statement.value)


def test_workflow_files_are_ascii() -> None:
    """Snakemake reads some of them in the locale's encoding."""
    for path in [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*")]:
        if path.is_file():
            assert path.read_bytes().isascii(), path


def test_code_hashes_are_equal_in_every_locale(tmp_path: Path) -> None:
    lines = [
        "from irpipe import code_hash",
        "from irpipe.config.kinds import kinds",
        "print(code_hash.of_training('mnist', 'trades'), code_hash.of_import('cifar10'))",
        "print(*(code_hash.of_report(kind) for kind in kinds('reports')))",
        "print(*(code_hash.of_evaluation('digits', kind) for kind in kinds('attacks')))",
    ]
    run = run_in_ascii("-c", "\n".join(lines), cwd=tmp_path)
    assert run.stdout.decode("ascii").split() == [
        code_hash.of_training("mnist", "trades"),
        code_hash.of_import("cifar10"),
        *(code_hash.of_report(kind) for kind in kinds("reports")),
        *(code_hash.of_evaluation("digits", kind) for kind in kinds("attacks")),
    ]


def test_every_letter_of_a_title_arrives(tmp_path: Path) -> None:
    """From a config, and from the command line, where such letters come as bytes."""
    source = "from torch import nn\n\n\ndef network():\n"
    source += "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    stress = ["stress", "--checkpoint", "mine:network", "--dataset", "digits", "--images", "5"]
    stress += ["--attacks", "pgd={kind: pgd, steps: 2}", "--output", "o"]
    table, figure = (
        f"{{kind: {kind}, title: '{TITLE}', sweep: eps, steps: 2}}"
        for kind in ("accuracy_table", "accuracy_curve")
    )
    text = f"# ε\ntables: {{t: {table}}}\nfigures: {{t: {figure}}}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    commands = [stress]
    for argument, options in (("t", ["--config", "mine.yaml"]), ("t={}", [])):
        for section, entry in (("table", table), ("figure", figure)):
            report = ["report", f"--{section}", argument.format(entry), *options, "o/pgd.h5"]
            commands.append([*report, "--output", f"r{len(options)}"])
    arguments = [word for command in commands for word in (*command, "THEN")]
    run = run_in_ascii("-c", SEVERAL_COMMANDS, *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    paths = [tmp_path / f"r{n}" / name for n in (0, 2) for name in ("table_t.html", "figure_t.svg")]
    assert all(TITLE in path.read_text(encoding="utf-8") for path in paths)


def test_letters_that_a_terminal_cannot_show_become_escapes(tmp_path: Path) -> None:
    folder = tmp_path / "ε"
    run = run_in_ascii(
        "-m", "irpipe", "data", "--dataset", "digits", "--output", "ε.json", cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith(b".json\n")
    assert (tmp_path / "ε.json").exists()
    run = run_in_ascii("-m", "irpipe", "verify", str(folder), cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.count(b"\n") == 1
    # A config is UTF-8, so its letters are known, and shown as their escapes.
    config = tmp_path / "mine.yaml"
    config.write_text("attacks: {'ε': {kind: pgd}}\n", encoding="utf-8")
    run = run_in_ascii("-m", "irpipe", "check", "--config", str(config), cwd=tmp_path)
    assert run.returncode == 2
    assert run.stderr.count(b"\n") == 1
