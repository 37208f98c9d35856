"""Hostile and mistaken configs: refused in one line that names the key, within a second, and nothing is written."""

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from irpipe import config
from irpipe.cli import main
from irpipe.errors import IrpipeError

GOOD: dict[str, Any] = {
    "data": "data",
    "released": "released",
    "download": False,
    "seeds": 1,
    "datasets": {"digits": {"kind": "digits"}},
    "methods": {"adv": {"kind": "standard", "attacked": True}, "int": {"kind": "interp", "weight": 0.01}},
    "recipes": {"r": {"batch": 9, "epochs": 1, "rate": [[0, 0.1]], "ramp": [[0, 1]], "steps": 1, "step_size": 0.1}},
    "attacks": {"pgd": {"kind": "pgd", "steps": [1, 10], "eps": [0, 0.1], "batch": 7, "seed": 1, "random_start": True}},
    "networks": [
        {
            **{"dataset": "digits", "model": "small", "methods": ["adv"], "attacks": ["pgd"], "recipe": "r"},
            **{"seeds": 2, "released": {"adv": "net.pkl"}},
        }
    ],
    "tables": {"t": {"kind": "table", "title": "T", "attack": "pgd", "steps": 10}},
    "figures": {"f": {"kind": "curve", "title": "F", "attack": "pgd"}},
}
VALUES: list[Any] = [
    *({"a": {"b": 1}}, [[[]]], [None], -1, 1.5, float("nan"), float("inf"), 2**70, 10**5000, "a\nb", "\0", "\x1b[2J"),
    *("../../../etc/passwd", "/etc/passwd", "$(touch canary)", "; touch canary #", "x" * 5000, "__import__('os')"),
]
NAMES = [
    *("", ".", "..", "../up", "/etc", "a/b", "a b", "-rf", "a;touch canary", "$(touch canary)", "`touch canary`"),
    *("a|b", "a\nb", "a\0b", "{x}", "a'b", 'a"b', "ä", "_a", "x" * 65, "x" * 5000, "*", "~", "a.b", "\x1b[2J", "%s"),
]
TEXT = {"data", "released", "title"}  # keys that take any printable text; all that reaches a shell is quoted
LARGE = {"weight", "step_size", 1}  # numbers that may be above 1
FILE = ("networks", 0, "released", "adv")  # of any name, in its folder
UNUSED = {("methods", "int"), ("tables", "t"), ("figures", "f")}  # any name will do
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(20)
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
LIMIT = 1 if sys.gettrace() is None else 10  # seconds; measuring coverage slows everything


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below `node`."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(path: tuple[Any, ...], key: Any, value: Any) -> dict[str, Any]:
    """The good config with the entry at `path` removed and, unless it is None, `key: value` in its place."""
    made = copy.deepcopy(GOOD)
    parent: Any = made
    for step in path[:-1]:
        parent = parent[step]
    old = parent.pop(path[-1])
    if isinstance(parent, list):
        parent.insert(path[-1], value)
    elif key is not None:
        parent[key] = old if value is ... else value
    return made


def hostile() -> Iterator[tuple[str, dict[str, Any]]]:
    """Changed configs, each with the section that is wrong in it."""
    for path in places(GOOD):
        for value in VALUES:
            text = (isinstance(value, str) and value.isprintable()) or (value == -1 and len(path) == 1)
            if not (text and path[-1] in TEXT) and not (value == 1.5 and path[-1] in LARGE) and path != FILE:
                yield str(path[0]), changed(path, path[-1], value)
    for section in ("datasets", "methods", "recipes", "attacks", "tables", "figures"):
        for name in NAMES:
            yield section, changed((section, next(iter(GOOD[section]))), name, ...)
    for path in places(GOOD):
        if isinstance(path[-1], str) and path not in UNUSED:
            yield path[0], changed(path, f"{path[-1]}x", ...)


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `irpipe check` says of a config; fails unless that is one line, said within a second."""
    begin = time.thread_time()
    assert main(["check", "--config", str(path)]) == 2
    assert time.thread_time() - begin < LIMIT
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"irpipe check: error: {path}")
    assert said.err.endswith("\n")
    assert said.err[:-1].isprintable()
    assert len(said.err) < 1000
    return said.err


def test_the_config_that_is_changed_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(GOOD))
    assert main(["check", "--config", str(tmp_path / "good.yaml")]) == 0


def test_hostile_values_names_and_keys() -> None:
    count, taken = 0, []
    for key, made in hostile():
        begin = time.thread_time()
        try:
            config.check(made)
            taken.append(made)
        except IrpipeError as error:
            assert str(error).startswith(f"config.{key}") or str(error).startswith("config.networks"), error
            assert str(error).isprintable()
            assert len(str(error)) < 1000
        assert time.thread_time() - begin < LIMIT
        count += 1
    assert taken == []
    assert count > 500


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_texts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    content = TEXTS[name]
    Path("bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refusal(Path("bad.yaml"), capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize("name", ["../../net.pkl", "/etc/passwd", "", "a/../../b", ".."])
def test_released_files_outside_their_folder(name: str) -> None:
    with pytest.raises(IrpipeError, match=r"^config\.networks\.0\.released\.adv: not a file in the folder of released"):
        config.check(changed(FILE, "adv", name))


def test_bombs_that_another_reader_took(tmp_path: Path) -> None:
    """Snakemake reads configs by itself, so aliases come as values that occur in several places."""
    for text in (BOMB, "a: &a [*a]"):
        begin = time.thread_time()
        with pytest.raises(IrpipeError, match=r"^config\.\S+: too deep or too much"):
            config.check(yaml.safe_load(text))
        assert time.thread_time() - begin < LIMIT


@pytest.mark.parametrize("text", ["{" * 5000, "[" * 100_000, "9" * 5000, "{kind: pgd, kind: pgd}", "&a [*a]", "!!x 1"])
def test_hostile_entries_on_the_command_line(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ["--checkpoint", "none", "--output", str(tmp_path / "x.h5")]
    assert main(["evaluate", *given, "--attack", f"mine={text}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("irpipe evaluate: error: attacks.mine: ")
    assert said[:-1].isprintable()
