"""config/README.md explains every key that a config may have, and names every config that is shipped."""

from pathlib import Path

import pytest

from irpipe.config import Config, Networks, Recipe

FOLDER = Path(__file__).resolve().parents[1] / "config"
TEXT = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize(("model", "place"), [(Config, 0), (Recipe, 1), (Networks, 2)])
def test_every_key_is_explained_in_its_table(model: type[Config], place: int) -> None:
    keys = {line.split("`")[1] for line in TEXT.split("\n### ")[place].splitlines() if line.startswith("| `")}
    assert {key for key in keys if not key.endswith(".yaml")} == set(model.model_fields)


@pytest.mark.parametrize(("model", "place"), [(Config, 0), (Recipe, 1), (Networks, 2)])
def test_required_keys_are_called_so(model: type[Config], place: int) -> None:
    rows = [line.split("|") for line in TEXT.split("\n### ")[place].splitlines() if line.startswith("| `")]
    said = {row[1].strip(" `") for row in rows if len(row) == 6 and row[3].strip() == "required"}
    assert said == {key for key, field in model.model_fields.items() if field.is_required()}


def test_every_config_is_named() -> None:
    assert [path.name for path in FOLDER.glob("*.yaml") if f"`{path.name}`" not in TEXT] == []
