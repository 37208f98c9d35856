"""The grammar of named entries: options, numbers, kinds, and one line for whatever is wrong."""

import ast
from typing import Any

import pytest
import yaml

from irpipe import config
from irpipe.config.kinds import (
    COMMON_ATTACK_OPTIONS,
    FUNCTION_OF_CATEGORY,
    PACKAGE_FOLDER,
    check_section,
    kinds,
    options_model,
    resolve_entry,
)
from irpipe.errors import IrpipeError

LOCATION = "config.attacks.mine"
RECIPE = {
    "batch_size": 5,
    "epochs": 1,
    "lr": [[0, 0.1]],
    "eps_schedule": [[0, 0], [10, 1]],
    "inner_steps": 3,
    "inner_step_size": "2/255",
}


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that matches `message` from end to end."""
    return pytest.raises(IrpipeError, match=rf"\A{message}\Z")


def resolve_pgd(options: str) -> dict[str, Any]:
    """The resolved PGD entry with these options, as YAML reads them."""
    return resolve_entry("attacks", {"kind": "pgd"} | yaml.safe_load(f"{{{options}}}"), LOCATION)


def test_fractions_are_exact_and_one_number_is_a_list_of_one() -> None:
    assert resolve_pgd("eps: 8/255")["eps"] == [8 / 255]
    assert resolve_pgd("eps: [0, 2/255, 0.05, 1 / 4]")["eps"] == [0, 2 / 255, 0.05, 0.25]
    assert resolve_pgd("step_size: 2/255, steps: 7") == {
        "kind": "pgd",
        "eps": None,
        "images": 200,
        "seed": 99,
        "batch_size": 200,
        "steps": [7],
        "norm": "linf",
        "step_size": 2 / 255,
        "step_size_factor": None,
        "random_start": False,
        "grad_dtype": "float32",
    }


@pytest.mark.parametrize(
    ("options", "message"),
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
        ("step: 3", r"step: no option 'step'; have: batch_size, eps, .*; did you mean 'steps'\?"),
        ("zzzzz: 3", r"zzzzz: no option 'zzzzz'; have: batch_size, eps, [^;?]*"),
    ],
)
def test_wrong_options_are_named(options: str, message: str) -> None:
    with refused(rf"config\.attacks\.mine\.{message}"):
        resolve_pgd(options)


@pytest.mark.parametrize(
    ("category", "entry", "message"),
    [
        (
            "attacks",
            {"kind": "pgdd"},
            r"here\.kind: no attack kind 'pgdd'; have: .*; did you mean 'pgd'\?",
        ),
        (
            "methods",
            {"kind": "cross_entrpy"},
            r"here\.kind: no method kind 'cross_entrpy'; .*; did you mean 'cross_entropy'\?",
        ),
        (
            "datasets",
            {"kind": "xyzzy"},
            r"here\.kind: no dataset kind 'xyzzy'; have: cifar10, digits, imagefolder, [^?]*",
        ),
        ("datasets", {"kind": "__init__"}, r"here\.kind: no dataset kind '__init__'; .*"),
        ("datasets", {"kind": "_downloads"}, r"here\.kind: no dataset kind '_downloads'; .*"),
        (
            "attacks",
            {"eps": 0.1},
            r"here: expected a mapping with a kind, .*; found \{'eps': 0\.1\}",
        ),
        (
            "attacks",
            "pgd",
            r"here: expected a mapping with a kind, such as \{kind: .*\}; found 'pgd'",
        ),
        ("attacks", None, r"here: expected a mapping with a kind, .*; found None"),
        ("methods", {"kind": "cross_entropy"}, r"here\.adversarial: missing"),
        (
            "methods",
            {"kind": "interpretability_aware", "class_set": "three"},
            r"here\.class_set: input should be 'one' or 'two'; .*",
        ),
        (
            "methods",
            {"kind": "interpretability_aware", "reg_weight": -0.1},
            r"here\.reg_weight: .* greater than or equal to 0; found -0\.1",
        ),
    ],
)
def test_wrong_entries_are_named(category: str, entry: object, message: str) -> None:
    with refused(message):
        resolve_entry(category, entry, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lr": [[5, 0.1], [0, 0.2]]},
            r"lr: steps must be whole numbers, each greater than .*; found .*",
        ),
        (
            {"lr": [[5, 0.1], [5, 0.2]]},
            r"lr: steps must be whole numbers, each greater than .*; found .*",
        ),
        ({"lr": [[0.5, 0.1]]}, r"lr: steps must be whole numbers, .*; found .*"),
        ({"lr": [[False, 0.1]]}, r"lr\.0\.0: input should be a valid integer; found False"),
        ({"lr": 0.1}, r"lr: not a list of points \[step, value\]; found 0\.1"),
        ({"lr": []}, r"lr: not a list of points \[step, value\]; found \[\]"),
        ({"lr": [[0, "5e-4"]]}, r"lr\.0\.1: not a number; .*; found '5e-4'"),
        ({"lr": [[0, float("nan")]]}, r"lr\.0\.1: .*; found nan"),
        (
            {"eps_schedule": [[-1, 0.5]]},
            r"eps_schedule\.0\.0: input should be greater than or equal to 0; found -1",
        ),
        ({"eps": 1.1}, r"eps: input should be less than or equal to 1; found 1\.1"),
        ({"epoch": 5}, r"epoch: unknown key; .*"),
        ({"batch_size": 0}, r"batch_size: input should be greater than or equal to 1; found 0"),
    ],
)
def test_wrong_recipes_are_named(change: dict[str, Any], message: str) -> None:
    with refused(rf"here\.{message}"):
        config.resolve_named("recipes", RECIPE | change, "here")


def test_a_recipe_comes_back_with_its_defaults() -> None:
    resolved = {"inner_step_size": 2 / 255, "eps": None, "seed": 99}
    assert config.resolve_named("recipes", RECIPE, "here") == RECIPE | resolved


@pytest.mark.parametrize("category", FUNCTION_OF_CATEGORY)
def test_options_of_every_kind_are_read_as_its_source_has_them(category: str) -> None:
    assert kinds(category)
    common = set(COMMON_ATTACK_OPTIONS) - {"eps"} if category == "attacks" else set()
    for kind in kinds(category):
        source = (PACKAGE_FOLDER / category / f"{kind}.py").read_text(encoding="utf-8")
        (function,) = (
            statement
            for statement in ast.parse(source).body
            if isinstance(statement, ast.FunctionDef)
            and statement.name == FUNCTION_OF_CATEGORY[category]
        )
        options = {argument.arg for argument in function.args.kwonlyargs}
        assert set(options_model(category, kind).model_fields) == options | common


@pytest.mark.parametrize("kind", kinds("reports"))
def test_every_report_is_known_as_a_table_or_a_figure(kind: str) -> None:
    refusals = []
    for section in ("tables", "figures"):
        try:
            check_section(section, kind, section)
        except IrpipeError as error:
            refusals.append(str(error))
    assert len(refusals) == 1
