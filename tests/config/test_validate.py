"""Complete configs: one line for whatever is wrong, runs in order, look-up of names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from irpipe import config
from irpipe.errors import IrpipeError

RECIPE = {
    "batch_size": 5,
    "epochs": 1,
    "lr": [[0, 0.1]],
    "eps_schedule": [[0, 0], [10, 1]],
    "inner_steps": 3,
    "inner_step_size": "2/255",
}
TABLE = {"kind": "accuracy_table", "title": "T"}
Change = Callable[[dict[str, Any]], object]


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that matches `message` from end to end."""
    return pytest.raises(IrpipeError, match=rf"\A{message}\Z")


def valid_config() -> dict[str, Any]:
    return {
        "datasets": {"digits": {"kind": "digits"}},
        "methods": {"normal": {"kind": "cross_entropy", "adversarial": False}},
        "recipes": {"fast": dict(RECIPE)},
        "attacks": {"pgd": {"kind": "pgd"}},
        "networks": [
            {
                "dataset": "digits",
                "model": "small",
                "methods": ["normal"],
                "attacks": ["pgd"],
                "recipe": "fast",
            }
        ],
    }


def network(**change: Any) -> Change:
    """A change of the config's only `networks` entry."""
    return lambda raw: raw["networks"][0].update(change)


def entry(section: str, name: str, options: dict[str, Any]) -> Change:
    """A new or another entry of a section."""
    return lambda raw: raw[section].update({name: options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            network(dataset="digit"),
            r"networks\.0\.dataset: no dataset 'digit'; have: digits; did you mean 'digits'\?",
        ),
        (network(attacks=["pgd", "isa"]), r"networks\.0\.attacks: no attack 'isa'; have: pgd"),
        (
            network(methods=["norm"]),
            r"networks\.0\.methods: no method 'norm'; have: normal; did you mean 'normal'\?",
        ),
        (network(methods=[]), r"networks\.0\.methods: .* at least 1 item.*"),
        (network(recipe="slow"), r"networks\.0\.recipe: no recipe 'slow'; have: fast"),
        (network(recipe=None, seeds=1), r"networks\.0\.recipe: missing; .*"),
        (network(seeds=0), r"networks\.0: makes no network; .*"),
        (
            network(model="big"),
            r"networks\.0\.model: neither small, pool, wresnet, own nor a file .*; found 'big'",
        ),
        (
            network(released_files={"adv": "a.pkl"}),
            r"networks\.0\.released_files: no method 'adv'; have: normal",
        ),
        (network(attacks=["pgd"] * 2), r"networks\.0\.attacks: has a name twice; .*"),
        (
            network(methods=["normal", "x"], recipe=None, released_files={"normal": "a"}),
            r".*makes no network of 'x'; .*",
        ),
        (network(metods=1), r"networks\.0\.metods: unknown key; .*"),
        (network(methods=["normal"] * 2), r"networks\.0\.methods: has a name twice; .*"),
        (
            lambda raw: raw["networks"].append(raw["networks"][0]),
            r"networks\.1: makes digits/.* a second time; .*",
        ),
        (entry("attacks", "a/b", {"kind": "pgd"}), r"attacks: 'a/b' is no name; .*"),
        (entry("recipes", "..", RECIPE), r"recipes: '\.\.' is no name; .*"),
        (
            entry("attacks", "pgd", {"kind": "pgd", "eps": "5e-4"}),
            r"attacks\.pgd\.eps\.0: not a number; .*",
        ),
        (
            lambda raw: raw.update(tables={"t": TABLE | {"attack": "pgdd"}}),
            r"tables\.t: no attack 'pgdd'; have: pgd; did you mean 'pgd'\?",
        ),
        (
            lambda raw: raw.update(figures={"f": TABLE}),
            r"figures\.f\.kind: accuracy_table makes a table; name it in tables, or after --table",
        ),
        (
            lambda raw: raw.update(tables={"t": TABLE | {"kind": "accuracy_curve"}}),
            r"tables\.t\.kind: accuracy_curve makes a figure; name it in figures, or .*",
        ),
        (lambda raw: raw.pop("attacks"), r"attacks: missing"),
        (lambda raw: raw.update(network=[]), r"network: unknown key; .*"),
    ],
)
def test_wrong_configs_are_named(change: Change, message: str) -> None:
    raw = valid_config()
    assert config.validate(raw)["networks"][0]["seeds"] == 1
    change(raw)
    with refused(rf"mine\.yaml\.{message}"):
        config.validate(raw, "mine.yaml")


def test_runs_in_order() -> None:
    networks = {
        "dataset": "d",
        "model": "m",
        "methods": ["a", "b"],
        "seeds": 2,
        "released_files": {"b": "b.pkl"},
        "checkpoints": {},
    }
    names = ["/".join(run) for run in config.runs(networks)]
    assert names == ["d/m/a/seed0", "d/m/a/seed1", "d/m/b/released", "d/m/b/seed0", "d/m/b/seed1"]
    elsewhere = {"model": "./nets/wide.py", "seeds": 0, "checkpoints": {"a": "./a.pt2"}}
    names = ["/".join(run) for run in config.runs(networks | elsewhere)]
    assert names == ["d/wide/a/external", "d/wide/b/released"]


def write_attacks(path: Path, attacks: str) -> Path:
    path.write_text(f"attacks: {{{attacks}}}", encoding="utf-8")
    return path


def test_lookup_refuses_a_name_that_two_configs_use_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, steps in (("one", 3), ("two", 3), ("three", 4)):
        write_attacks(tmp_path / f"{name}.yaml", f"pgd: {{kind: pgd, steps: {steps}}}")
    monkeypatch.setattr(config, "CONFIG_FOLDER", tmp_path)
    files = r".*one\.yaml and .*three\.yaml.*"
    with refused(rf"attacks\.pgd differs between {files}; say which with --config"):
        config.lookup("attacks", "pgd", None)
    (tmp_path / "three.yaml").unlink()
    assert config.lookup("attacks", "pgd", None)["steps"] == [3]


def test_lookup_names_the_nearest(tmp_path: Path) -> None:
    assert config.lookup("attacks", "pgd", None)["steps"] == [1, 10, 100, 200]
    folder = re.escape(str(config.CONFIG_FOLDER))
    with refused(rf"{folder}: attacks: no attack 'pdg'; have: .*; did you mean 'pgd'\?"):
        config.lookup("attacks", "pdg", None)
    path = write_attacks(
        tmp_path / "mine.yaml", "pgd: {kind: pgd, steps: 3}, bad: {kind: pgd, steps: -3}"
    )
    assert config.lookup("attacks", "pgd", path)["steps"] == [3]
    with refused(rf"{re.escape(str(path))}: attacks\.bad\.steps\.0: .*; found -3"):
        config.lookup("attacks", "bad", path)
