"""Text is UTF-8 wherever it is read or written, whatever the locale's encoding is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_copy import ROOT

from irpipe import code_hash
from irpipe.config.kinds import kinds

# Python neither leaves the C locale nor turns UTF-8 on by itself: open() reads ASCII.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
TEXT_FUNCTIONS = {"open", "read_text", "write_text", "fdopen", "TextIOWrapper"}
SOURCES = [path for folder in ("src", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
TITLE = "Größe ≥ ε"


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


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the result of an attack, o/pgd.h5."""
    folder = tmp_path_factory.mktemp("attacked")
    evaluate = ["-m", "irpipe", "stress", "--checkpoint", "mine:network", "--dataset", "digits"]
    evaluate += ["--images", "5", "--attacks", "pgd={kind: pgd, steps: 2}", "--output", "o"]
    source = "from torch import nn\n\n\ndef network():\n"
    source += "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    (folder / "mine.py").write_text(source, encoding="utf-8")
    assert run_in_ascii(*evaluate, cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("section", ["tables", "figures"])
def test_every_letter_of_a_title_arrives(section: str, attacked: Path, tmp_path: Path) -> None:
    """From a config, and from the command line, where such letters come as bytes."""
    kind = {"tables": "accuracy_table", "figures": "accuracy_curve"}[section]
    entry = f"{{kind: {kind}, title: '{TITLE}', sweep: eps, steps: 2}}"
    config = tmp_path / "mine.yaml"
    config.write_text(f"# ε\n{section}: {{t: {entry}}}\n", encoding="utf-8")
    report = ["-m", "irpipe", "report", f"--{section.removesuffix('s')}"]
    for argument, options in (("t", ["--config", str(config)]), (f"t={entry}", [])):
        inputs = [str(attacked / "o" / "pgd.h5"), "--output", "r"]
        run = run_in_ascii(*report, argument, *options, *inputs, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        suffix = {"tables": "html", "figures": "svg"}[section]
        path = tmp_path / "r" / f"{section.removesuffix('s')}_t.{suffix}"
        assert TITLE in path.read_text(encoding="utf-8")
        path.unlink()


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
