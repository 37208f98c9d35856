"""The grammar of configs, the configs the project ships, and the code hash."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from irpipe import codehash, config
from irpipe.errors import IrpipeError
from irpipe.spec import ENTRY, FOLDER, kinds, options, resolve

CONFIGS = sorted(config.SHIPPED.glob("*.yaml"))


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that matches `message` from end to end."""
    return pytest.raises(IrpipeError, match=rf"\A{message}\Z")


def pgd(text: str) -> dict[str, Any]:
    """A PGD entry as YAML reads its options."""
    return resolve("attacks", {"kind": "pgd"} | yaml.safe_load(f"{{{text}}}"), "config.attacks.mine")


# --- numbers ---------------------------------------------------------------------------------------------


def test_fractions_are_exact_and_one_number_is_a_list_of_one() -> None:
    assert pgd("eps: 8/255")["eps"] == [8 / 255]
    assert pgd("eps: [0, 2/255, 0.05, 1 / 4]")["eps"] == [0, 2 / 255, 0.05, 0.25]
    assert pgd("step_size: 2/255, steps: 7") == {
        "kind": "pgd",
        **{"eps": None, "images": 200, "seed": 99, "batch": 200},
        **{"steps": [7], "step_size": 2 / 255, "relative": None, "random_start": False, "precision": "float32"},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eps: abc", r"eps\.0: not a number; write 0\.1, 8/255 or, .* 5\.0e-4 .*; found 'abc'"),
        ("step_size: 5e-4", r"step_size: not a number; .*; found '5e-4'"),
        ("eps: 8/0", r"eps\.0: not a number; .*; found '8/0'"),
        ("eps: -8/255", r"eps\.0: not a number; .*; found '-8/255'"),
        ("eps: [0.1, 1.5]", r"eps\.1: input should be less than or equal to 1; found 1\.5"),
        ("eps: []", r"eps: .* at least 1 item.*; found \[\]"),
        ("eps: .nan", r"eps\.0: input should be .*; found nan"),
        ("step_size: .inf", r"step_size: input should be a finite number; found inf"),
        ("step_size: -0.1", r"step_size: input should be greater than 0; found -0\.1"),
        ("step_size: 0", r"step_size: input should be greater than 0; found 0"),
        ("step_size: true", r"step_size: input should be a valid number; found True"),
        ("steps: [10, -1]", r"steps\.1: input should be greater than or equal to 1; found -1"),
        ("steps: 0", r"steps\.0: input should be greater than or equal to 1; found 0"),
        ("steps: 2.0", r"steps\.0: input should be a valid integer; found 2\.0"),
        ("steps: yes", r"steps\.0: input should be a valid integer; found True"),
        ("steps: '10'", r"steps\.0: input should be a valid integer; found '10'"),
        ("random_start: 1", r"random_start: input should be a valid boolean; found 1"),
        ("seed: -1", r"seed: input should be greater than or equal to 0; found -1"),
        ("step: 3", r"step: no option 'step'; have: batch, eps, .*; did you mean 'steps'\?"),
        ("zzzzz: 3", r"zzzzz: no option 'zzzzz'; have: batch, eps, [^;?]*"),
    ],
)
def test_wrong_options_are_named(text: str, message: str) -> None:
    with refused(rf"config\.attacks\.mine\.{message}"):
        pgd(text)


@pytest.mark.parametrize(
    ("category", "entry", "message"),
    [
        ("attacks", {"kind": "pgdd"}, r"here\.kind: no attack kind 'pgdd'; have: .*; did you mean 'pgd'\?"),
        ("methods", {"kind": "standart"}, r"here\.kind: no method kind 'standart'; .*; did you mean 'standard'\?"),
        ("datasets", {"kind": "xyzzy"}, r"here\.kind: no dataset kind 'xyzzy'; have: cifar10, digits, mnist, [^?]*"),
        ("datasets", {"kind": "__init__"}, r"here\.kind: no dataset kind '__init__'; .*"),
        ("attacks", {"eps": 0.1}, r"here: expected a mapping with a kind, .*; found \{'eps': 0\.1\}"),
        ("attacks", "pgd", r"here: expected a mapping with a kind, such as \{kind: .*\}; found 'pgd'"),
        ("attacks", None, r"here: expected a mapping with a kind, .*; found None"),
        ("methods", {"kind": "standard"}, r"here\.attacked: missing"),
        ("methods", {"kind": "interp", "classes": "three"}, r"here\.classes: input should be 'one' or 'two'; .*"),
        ("methods", {"kind": "interp", "weight": -0.1}, r"here\.weight: .* greater than or equal to 0; found -0\.1"),
    ],
)
def test_wrong_entries_are_named(category: str, entry: object, message: str) -> None:
    with refused(message):
        resolve(category, entry, "here")


RECIPE = {"batch": 5, "epochs": 1, "rate": [[0, 0.1]], "ramp": [[0, 0], [10, 1]], "steps": 3, "step_size": "2/255"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": [[5, 0.1], [0, 0.2]]}, r"rate: steps must be whole numbers, each greater than .*; found .*"),
        ({"rate": [[5, 0.1], [5, 0.2]]}, r"rate: steps must be whole numbers, each greater than .*; found .*"),
        ({"rate": [[0.5, 0.1]]}, r"rate: steps must be whole numbers, .*; found .*"),
        ({"rate": [[False, 0.1]]}, r"rate\.0\.0: input should be a valid integer; found False"),
        ({"rate": 0.1}, r"rate: not a list of points \[step, value\]; found 0\.1"),
        ({"rate": []}, r"rate: not a list of points \[step, value\]; found \[\]"),
        ({"rate": [[0, "5e-4"]]}, r"rate\.0\.1: not a number; .*; found '5e-4'"),
        ({"rate": [[0, float("nan")]]}, r"rate\.0\.1: .*; found nan"),
        ({"ramp": [[-1, 0.5]]}, r"ramp\.0\.0: input should be greater than or equal to 0; found -1"),
        ({"radius": 1.1}, r"radius: input should be less than or equal to 1; found 1\.1"),
        ({"epoch": 5}, r"epoch: unknown key; .*"),
        ({"batch": 0}, r"batch: input should be greater than or equal to 1; found 0"),
    ],
)
def test_wrong_recipes_are_named(change: dict[str, Any], message: str) -> None:
    with refused(rf"here\.{message}"):
        config.resolved("recipes", RECIPE | change, "here")


def test_a_recipe_comes_back_with_its_defaults() -> None:
    assert config.resolved("recipes", RECIPE, "here") == RECIPE | {
        "rate": [[0, 0.1]],
        "ramp": [[0, 0], [10, 1]],
        **{"step_size": 2 / 255, "radius": None, "seed": 99},
    }


@pytest.mark.parametrize("category", ENTRY)
def test_every_kind_can_be_checked_and_every_option_is_used(category: str) -> None:
    """The checker reads signatures from the source; that they are read right is checked against the text."""
    assert kinds(category)
    for kind in kinds(category):
        tree = ast.parse((FOLDER / category / f"{kind}.py").read_text())
        (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == ENTRY[category])
        given = {argument.arg for argument in function.args.kwonlyargs}
        shared = {"images", "seed", "batch"} if category == "attacks" else set()
        assert set(options(category, kind).model_fields) == given | shared


# --- whole configs ---------------------------------------------------------------------------------------


def whole() -> dict[str, Any]:
    return {
        "datasets": {"digits": {"kind": "digits"}},
        "methods": {"normal": {"kind": "standard", "attacked": False}},
        "recipes": {"fast": dict(RECIPE)},
        "attacks": {"pgd": {"kind": "pgd"}},
        "networks": [
            {"dataset": "digits", "model": "small", "methods": ["normal"], "attacks": ["pgd"], "recipe": "fast"}
        ],
    }


def network(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda raw: raw["networks"][0].update(change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (network(dataset="digit"), r"networks\.0\.dataset: no dataset 'digit'; have: digits; did you mean 'digits'\?"),
        (network(attacks=["pgd", "isa"]), r"networks\.0\.attacks: no attack 'isa'; have: pgd"),
        (network(methods=["norm"]), r"networks\.0\.methods: no method 'norm'; have: normal; did you mean 'normal'\?"),
        (network(methods=[]), r"networks\.0\.methods: .* at least 1 item.*"),
        (network(recipe="slow"), r"networks\.0\.recipe: no recipe 'slow'; have: fast"),
        (network(recipe=None, seeds=1), r"networks\.0\.recipe: missing; .*"),
        (network(seeds=0), r"networks\.0: makes no network; .*"),
        (network(model="big"), r"networks\.0\.model: input should be 'small', 'pool' or 'wresnet'; found 'big'"),
        (network(released={"adv": "a.pkl"}), r"networks\.0\.released: no released 'adv'; have: normal"),
        (network(attacks=["pgd"] * 2), r"networks\.0\.attacks: names one twice; .*"),
        (network(methods=["normal", "x"], recipe=None, released={"normal": "a"}), r".*makes no network of 'x'; .*"),
        (network(metods=1), r"networks\.0\.metods: unknown key; .*"),
        (network(methods=["normal"] * 2), r"networks\.0\.methods: names one twice; .*"),
        (lambda raw: raw["networks"].append(raw["networks"][0]), r"networks\.1: makes digits/.* a second time; .*"),
        (lambda raw: raw["attacks"].update({"a/b": {"kind": "pgd"}}), r"attacks: 'a/b' is no name; .*"),
        (lambda raw: raw["recipes"].update({"..": dict(RECIPE)}), r"recipes: '\.\.' is no name; .*"),
        (lambda raw: raw["attacks"]["pgd"].update(eps="5e-4"), r"attacks\.pgd\.eps\.0: not a number; .*"),
        (lambda raw: raw.pop("attacks"), r"attacks: missing"),
        (lambda raw: raw.update(network=[]), r"network: unknown key; .*"),
    ],
)
def test_wrong_configs_are_named(change: Callable[[dict[str, Any]], object], message: str) -> None:
    raw = whole()
    assert config.check(raw)["networks"][0]["seeds"] == 1
    change(raw)
    with refused(rf"mine\.yaml\.{message}"):
        config.check(raw, "mine.yaml")


def test_runs_in_order() -> None:
    entry = {"dataset": "d", "model": "m", "methods": ["a", "b"], "seeds": 2, "released": {"b": "b.pkl"}}
    made = ["/".join(run) for run in config.runs(entry)]
    assert made == ["d/m/a/seed0", "d/m/a/seed1", "d/m/b/released", "d/m/b/seed0", "d/m/b/seed1"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_well(path: Path) -> None:
    checked = config.check(config.read(path), str(path))
    assert checked["networks"]
    assert all(set(entry) >= {"kind"} for section in config.CATEGORIES for entry in checked[section].values())


def test_lookup_refuses_a_name_that_two_configs_use_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, steps in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / f"{name}.yaml").write_text(f"attacks: {{pgd: {{kind: pgd, steps: {steps}}}}}")
    monkeypatch.setattr(config, "SHIPPED", tmp_path)
    with refused(r"attacks\.pgd differs between .*one\.yaml and .*three\.yaml.*; say which with --config"):
        config.lookup("attacks", "pgd", None)
    (tmp_path / "three.yaml").unlink()
    assert config.lookup("attacks", "pgd", None)["steps"] == [3]


def test_lookup_names_the_nearest(tmp_path: Path) -> None:
    assert config.lookup("attacks", "pgd", None)["steps"] == [1, 10, 100, 200]
    with refused(rf"{config.SHIPPED}: attacks: no attack 'pdg'; have: .*; did you mean 'pgd'\?"):
        config.lookup("attacks", "pdg", None)
    mine = tmp_path / "mine.yaml"
    mine.write_text("attacks: {pgd: {kind: pgd, steps: 3}, bad: {kind: pgd, steps: -3}}")
    assert config.lookup("attacks", "pgd", mine)["steps"] == [3]
    with refused(rf"{mine}: attacks\.bad\.steps\.0: .*; found -3"):
        config.lookup("attacks", "bad", mine)


# --- code hash -------------------------------------------------------------------------------------------

MODULES = {
    "__init__.py": '"""A package."""\n',
    "a.py": '"""Uses b."""\n\nfrom pk.b import two\n\n\ndef one():\n    """Return 2."""\n    return two()\n',
    "b.py": "def two():\n    import pk.c as c\n\n    return c.N\n",
    "c.py": "N = 2\n",
    "d.py": "import json\n",
    "e/__init__.py": "",
    "e/table.csv": "1,2\n",
    "c.csv": "x\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package pk where a imports b and, within a function of b, c."""
    for name, text in MODULES.items():
        path = tmp_path / "pk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(codehash, "SOURCE", tmp_path)
    monkeypatch.setattr(codehash, "PACKAGE", "pk")
    codehash._one.cache_clear()
    yield tmp_path / "pk"
    codehash._one.cache_clear()


def rehashed(package: Path, name: str, old: str, new: str) -> str:
    path = package / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    codehash._one.cache_clear()
    found = codehash.code_hash("pk.a")
    path.write_text(text)
    codehash._one.cache_clear()
    return found


@pytest.mark.parametrize(
    ("name", "old", "new", "same"),
    [
        ("a.py", "Uses b", "Uses what it uses", True),
        ("a.py", '    """Return 2."""\n', "", True),
        ("a.py", "    return", "    # a comment\n\n    return", True),
        ("c.py", "N = 2", "N  =  2  # so many", True),
        ("e/table.csv", "1,2", "1,3", True),  # nobody imports it
        ("a.py", "return two()", "return two() + 1", False),
        ("b.py", "return c.N", "return -c.N", False),
        ("c.py", "N = 2", "N = 3", False),  # two imports away
        ("c.csv", "x", "y", False),  # a table beside a module
        ("b.py", "import pk.c as c", "import pk.c as c\n    import pk.d", False),
    ],
)
def test_code_hash_changes_with_code_only(package: Path, name: str, old: str, new: str, same: bool) -> None:
    before = codehash.code_hash("pk.a")
    assert len(before) == 12
    assert (rehashed(package, name, old, new) == before) == same
    assert codehash.code_hash("pk.a") == before


def test_tables_of_a_package_belong_to_it(package: Path) -> None:
    before = codehash.code_hash("pk.e")
    (package / "e" / "table.csv").write_text("1,3\n")
    codehash._one.cache_clear()
    assert codehash.code_hash("pk.e") != before
    with pytest.raises(ModuleNotFoundError, match=r"no source file for pk\.nothing"):
        codehash.code_hash("pk.nothing")


def test_each_result_depends_on_its_own_method_or_attack_only() -> None:
    training = {method: codehash.of_training("digits", method) for method in kinds("methods")}
    assert len(set(training.values())) == len(training)
    assert codehash.of_training("mnist", "standard") != training["standard"]
    parts = {codehash.of_evaluation("mnist", "pgd"), codehash.of_import("mnist"), codehash.of_data("mnist")}
    assert len(parts) == 3
