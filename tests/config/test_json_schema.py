"""config/schema.json is what the models export, and it accepts the configs that they accept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from irpipe.config import CONFIG_FOLDER, validate
from irpipe.config.json_schema import config_schema
from irpipe.errors import IrpipeError

SCHEMA = json.loads((CONFIG_FOLDER / "schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
QUICKSTART = (CONFIG_FOLDER / "config.yaml").read_text(encoding="utf-8")
CONFIGS = sorted(CONFIG_FOLDER.glob("*.yaml"))


def quickstart() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(QUICKSTART)
    return config


def test_the_file_is_what_the_models_export() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert config_schema() == SCHEMA, "run: make schema"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_name_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("section", "name", "change"),
    [
        ("attacks", "pgd", {"step": 3}),
        ("attacks", "pgd", {"steps": 0}),
        ("attacks", "pgd", {"steps": [1, "2"]}),
        ("attacks", "pgd", {"step_size": "5e-4"}),
        ("attacks", "pgd", {"step_size": 0}),
        ("attacks", "pgd", {"eps": 1.5}),
        ("attacks", "pgd", {"kind": "pgdd"}),
        ("methods", "int", {"reg_weight": -1}),
        ("methods", "int", {"class_set": "three"}),
        ("recipes", "quickstart", {"epoch": 5}),
        ("recipes", "quickstart", {"inner_step_size": "abc"}),
        ("tables", "3_digits", {"sweep": "seeds"}),
    ],
)
def test_what_irpipe_refuses_the_schema_refuses(
    section: str, name: str, change: dict[str, Any]
) -> None:
    config = quickstart()
    VALIDATOR.validate(config)
    config[section][name] |= change
    assert not VALIDATOR.is_valid(config)
    with pytest.raises(IrpipeError):
        validate(config)


@pytest.mark.parametrize(
    "change",
    [{"steps": 3}, {"steps": [3, 4]}, {"eps": "8/255"}, {"eps": [0, "2/255"]}, {"eps": None}],
)
def test_what_irpipe_accepts_the_schema_accepts(change: dict[str, Any]) -> None:
    config = quickstart()
    config["attacks"]["pgd"] |= change
    VALIDATOR.validate(config)
    validate(config)
