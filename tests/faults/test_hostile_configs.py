"""Hostile and mistaken configs: one line that names the key, within a second."""

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run

from irpipe import config
from irpipe.errors import IrpipeError

# Measuring coverage slows everything.
MAX_SECONDS = 1 if sys.gettrace() is None else 10
VALID: dict[str, Any] = {
    "data": "data",
    "released": "released",
    "download": False,
    "seeds": 1,
    "datasets": {"digits": {"kind": "digits"}},
    "methods": {
        "adv": {"kind": "cross_entropy", "adversarial": True},
        "int": {"kind": "interpretability_aware", "reg_weight": 0.01},
    },
    "recipes": {
        "r": {
            "batch_size": 9,
            "epochs": 1,
            "lr": [[0, 0.1]],
            "eps_schedule": [[0, 1]],
            "inner_steps": 1,
            "inner_step_size": 0.1,
        }
    },
    "attacks": {
        "pgd": {
            "kind": "pgd",
            "steps": [1, 10],
            "eps": [0, 0.1],
            "batch_size": 7,
            "seed": 1,
            "random_start": True,
        }
    },
    "networks": [
        {
            "dataset": "digits",
            "model": "small",
            "methods": ["adv"],
            "attacks": ["pgd"],
            "recipe": "r",
            "seeds": 2,
            "released_files": {"adv": "net.pkl"},
        }
    ],
    "tables": {"t": {"kind": "accuracy_table", "title": "T", "attack": "pgd", "steps": 10}},
    "figures": {"f": {"kind": "accuracy_curve", "title": "F", "attack": "pgd"}},
}
KeyPath = tuple[Any, ...]
# Keys that take any text that can be printed. All that reaches a shell is quoted.
TEXT_KEYS = {"data", "released", "title"}
# Keys of numbers that may be above 1. The second number of a schedule's point is one of them.
LARGE_KEYS = {"reg_weight", "inner_step_size", 1}
# A file may have any name in its folder.
RELEASED_FILE: KeyPath = ("networks", 0, "released_files", "adv")
# Entries to which no other refers: any name will do.
UNREFERENCED: set[KeyPath] = {("methods", "int"), ("tables", "t"), ("figures", "f")}
SECTIONS = ("datasets", "methods", "recipes", "attacks", "tables", "figures")
VALUES: list[Any] = [
    {"a": {"b": 1}},
    [[[]]],
    [None],
    -1,
    1.5,
    float("nan"),
    float("inf"),
    2**70,
    10**5000,
    "a\nb",
    "\0",
    "\x1b[2J",
    "../../../etc/passwd",
    "/etc/passwd",
    "$(touch canary)",
    "; touch canary #",
    "x" * 5000,
    "__import__('os')",
]
NAMES = [
    *("", ".", "..", "../up", "/etc", "a/b", "a b", "a.b", "~", "*", "%s", "{x}", "-rf", "_a", "ä"),
    *("a;touch canary", "$(touch canary)", "`touch canary`", "a|b", "a'b", 'a"b'),
    *("a\nb", "a\0b", "\x1b[2J", "x" * 65, "x" * 5000),
]


def key_paths(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every value below `node`."""
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for key, value in items:
        yield (*path, key)
        yield from key_paths(value, (*path, key))


def with_value(path: KeyPath, value: Any) -> dict[str, Any]:
    """The valid config with another value at a path."""
    changed = copy.deepcopy(VALID)
    parent: Any = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


def with_key(path: KeyPath, key: str) -> dict[str, Any]:
    """The valid config in which the last key of a path is called `key`."""
    changed = copy.deepcopy(VALID)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    parent[key] = parent.pop(path[-1])
    return changed


def is_valid_there(path: KeyPath, value: Any) -> bool:
    """Whether a value of VALUES is allowed at a path."""
    if path == RELEASED_FILE:
        return True
    if path[-1] in TEXT_KEYS:
        return isinstance(value, str) and value.isprintable()
    return value == 1.5 and path[-1] in LARGE_KEYS


def hostile_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Invalid configs, each with the section of its fault."""
    for path in key_paths(VALID):
        for value in VALUES:
            if not is_valid_there(path, value):
                yield str(path[0]), with_value(path, value)
    for section in SECTIONS:
        for name in NAMES:
            yield section, with_key((section, next(iter(VALID[section]))), name)
    for path in key_paths(VALID):
        if isinstance(path[-1], str) and path not in UNREFERENCED:
            yield path[0], with_key(path, f"{path[-1]}x")


def test_the_config_that_is_changed_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "valid.yaml"
    path.write_text(yaml.safe_dump(VALID), encoding="utf-8")
    assert run("check", "--config", path) == 0


def test_hostile_values_names_and_keys_are_refused() -> None:
    n_refused = 0
    for section, hostile in hostile_configs():
        begin = time.thread_time()
        with pytest.raises(IrpipeError) as caught:
            config.validate(hostile)
        assert time.thread_time() - begin < MAX_SECONDS
        message = str(caught.value)
        assert message.startswith((f"config.{section}", "config.networks")), message
        assert message.isprintable()
        assert len(message) < 1000
        n_refused += 1
    assert n_refused > 1000


@pytest.mark.parametrize("name", ["../../net.pkl", "/etc/passwd", "", "a/../../b", ".."])
def test_released_files_outside_their_folder_are_refused(name: str) -> None:
    message = r"config\.networks\.0\.released_files\.adv: not a file in the folder of released"
    with pytest.raises(IrpipeError, match=f"^{message}"):
        config.validate(with_value(RELEASED_FILE, name))
