"""Hostile YAML, in a file or on the command line: one line, within a second, nothing is written."""

import sys
import time
from pathlib import Path

import pytest
import yaml
from command_line import run

from irpipe import config
from irpipe.config import yaml_reader
from irpipe.errors import IrpipeError

# Measuring coverage slows everything.
MAX_SECONDS = 1 if sys.gettrace() is None else 10
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Each of 20 lists has nine aliases of the one before.
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{LETTERS[k]}: &{LETTERS[k]} [{', '.join([f'*{LETTERS[k - 1]}'] * 9)}]\n" for k in range(1, 21)
)
TEXTS: dict[str, str | bytes] = {
    "bomb": BOMB,
    "merge bomb": "a: &a {x: 1}\n" + "".join(f"m{k}: &m{k} {{<<: [*a, *a]}}\n" for k in range(20)),
    "itself": "a: &a [*a]\n",
    "deep list": "a: " + "[" * 2_000,
    "deep and closed": "a: " + "[" * 200 + "]" * 200,
    "deep mapping": "a: " + "{a: " * 500 + "1" + "}" * 500,
    "many keys": "\n".join(f"k{number}: 1" for number in range(5000)),
    "many values": f"datasets: [{', '.join(['1'] * 20_000)}]",
    "long": "#" * 70_000,
    "empty": "",
    "number": "5",
    "list": "[1, 2]",
    "text": "just text",
    "null": "~",
    "two documents": "a: 1\n---\nb: 2\n",
    "twice": "datasets: {}\ndatasets: {}\n",
    "call": "a: !!python/object/apply:os.system ['touch canary']",
    "object": "a: !!python/object/new:os.system ['touch canary']",
    "name": "a: !!python/name:os.system",
    "module": "a: !!python/module:os",
    "tag": "a: !Ref b",
    "date": "a: 2024-13-45",
    "real date": "attacks: {pgd: {kind: pgd, steps: 2024-01-01}}",
    "timestamp": "a: !!timestamp never",
    "int": "a: !!int abc",
    "bool": "a: !!bool abc",
    "float": "a: !!float abc",
    "binary": "a: !!binary abc",
    "bytes": "datasets: {d: {kind: !!binary aGFsbG8=}}",
    "set": "datasets: !!set {a, b}",
    "digits": f"a: {'9' * 5000}",
    "hexadecimal": f"seeds: 0x{'f' * 5000}",
    "sexagesimal": "a: " + ":".join(["59"] * 4000),
    "list as key": "[1, 2]: 3",
    "mapping as key": "{a: 1}: 3",
    "number as key": "datasets: {5: {kind: digits}}",
    "yes as key": "datasets: {yes: {kind: digits}}",
    "tab": "a:\n\tb: 1",
    "colon": "a: b: c",
    "open": "a: 'b",
    "control": b"a: \x07",
    "zero": b"a: \x00",
    "latin-1": "a: ä".encode("latin1"),
    "utf-16": "a: b".encode("utf-16"),
    "directive": "%YAML 9.9\n---\na: 1",
    "pickle": b"\x80\x04\x95",
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_files_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = TEXTS[name]
    Path("bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    begin = time.thread_time()
    assert run("check", "--config", "bad.yaml") == 2
    assert time.thread_time() - begin < MAX_SECONDS
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("irpipe check: error: bad.yaml")
    assert printed.err.endswith("\n")
    assert printed.err[:-1].isprintable()
    assert len(printed.err) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "MAX_VALUES", 5)
    monkeypatch.setattr(yaml_reader, "MAX_DEPTH", 3)


# The first has five values: the mapping, the list and three numbers.
@pytest.mark.parametrize("text", ["{a: 1, b: [2, 3]}", "[[[1]]]", "[[[], []]]"])
@pytest.mark.usefixtures("small_limits")
def test_as_much_as_the_limits_is_read(text: str) -> None:
    assert yaml_reader.parse_yaml(text, "x") == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["{a: 1, b: [2, 3, 4]}", "[1, 2, 3, 4, 5]", "[[[[]]]]"])
@pytest.mark.usefixtures("small_limits")
def test_more_than_the_limits_is_refused(text: str) -> None:
    with pytest.raises(IrpipeError, match=r"^x: not YAML: too deep or too much"):
        yaml_reader.parse_yaml(text, "x")


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]"])
def test_bombs_that_snakemake_has_read_are_refused(text: str) -> None:
    """Snakemake reads configs by itself, so an alias comes as a value in several positions."""
    begin = time.thread_time()
    with pytest.raises(IrpipeError, match=r"^config\.\S+: too deep or too much"):
        config.validate(yaml.safe_load(text))
    assert time.thread_time() - begin < MAX_SECONDS


@pytest.mark.parametrize(
    "text", ["{" * 5000, "[" * 100_000, "9" * 5000, "{kind: pgd, kind: pgd}", "&a [*a]", "!!x 1"]
)
def test_hostile_entries_on_the_command_line_are_refused(
    text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    paths = ("--checkpoint", "none", "--output", tmp_path / "x.h5")
    assert run("evaluate", *paths, "--attack", f"mine={text}") == 2
    message = capsys.readouterr().err
    assert message.startswith("irpipe evaluate: error: attacks.mine: ")
    assert message[:-1].isprintable()
