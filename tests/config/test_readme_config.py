"""config/README.md explains every key of a config and names every config that is shipped."""

from pathlib import Path

import pytest

from irpipe.config.kinds import COMMON_ATTACK_OPTIONS
from irpipe.config.schema import Config, Networks, Recipe

FOLDER = Path(__file__).resolve().parents[2] / "config"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
SECTIONS = TEXT.split("\n### ")

every_model = pytest.mark.parametrize(
    ("model", "section_index"), [(Config, 0), (Recipe, 1), (Networks, 2)]
)


def table_rows(section: str) -> list[list[str]]:
    """The cells of each table row whose first cell is code."""
    return [line.split("|") for line in section.splitlines() if line.startswith("| `")]


@every_model
def test_every_key_is_explained_in_its_table(model: type[Config], section_index: int) -> None:
    names = {row[1].strip(" `") for row in table_rows(SECTIONS[section_index])}
    assert {name for name in names if not name.endswith(".yaml")} == set(model.model_fields)


@every_model
def test_required_keys_are_called_required(model: type[Config], section_index: int) -> None:
    rows = [row for row in table_rows(SECTIONS[section_index]) if len(row) == 6]
    required = {row[1].strip(" `") for row in rows if row[3].strip() == "required"}
    assert required == {key for key, field in model.model_fields.items() if field.is_required()}


def test_every_config_is_named() -> None:
    assert [path.name for path in FOLDER.glob("*.yaml") if f"`{path.name}`" not in TEXT] == []


def test_options_of_every_attack_are_explained_with_their_defaults() -> None:
    table = TEXT.split("| option | default | meaning |\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[1:]]
    defaults = {name: default for _, name, default, _, _ in rows}
    assert defaults.pop("eps") == "those of the data set"
    common = {name: str(default) for name, (_, default) in COMMON_ATTACK_OPTIONS.items()}
    assert defaults | {"eps": "None"} == common
