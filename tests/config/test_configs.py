"""The configs that the project ships."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irpipe import config
from irpipe.cli._arguments import read_entry
from irpipe.config import yaml_reader
from irpipe.errors import IrpipeError

KINDS_OF_SEVERAL_ATTACKS = {"unforeseen_table", "attack_gallery"}
CONFIGS = sorted(config.CONFIG_FOLDER.glob("*.yaml"))
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
read_once = functools.cache(config.read_yaml)


def read(path: Path) -> dict[str, Any]:
    return config.validate(yaml_reader.read_yaml(path), str(path))


def entries(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Section, name and resolved options of every entry of a config."""
    checked = read(path)
    for section in (*config.CATEGORY_OF_SECTION, "recipes"):
        for name, entry in checked[section].items():
            yield section, name, entry


@every_config
def test_every_shipped_config_makes_networks_and_each_entry_has_a_kind(path: Path) -> None:
    assert read(path)["networks"]
    assert all("kind" in entry for section, _, entry in entries(path) if section != "recipes")


@every_config
def test_every_name_can_be_looked_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two configs differ in a name, so `--attack pgd` works without --config."""
    monkeypatch.setattr(config, "read_yaml", read_once)  # to save time
    written = yaml_reader.read_yaml(path)
    for section, name, entry in entries(path):
        if name in written.get(section, {}):  # the check of proofs is in no file
            assert config.lookup(section, name, None) == entry


@every_config
def test_every_entry_survives_the_command_line(path: Path) -> None:
    """The workflow hands entries over as JSON, whose 1e-05 is text to a YAML reader."""
    for section, name, entry in entries(path):
        assert read_entry(section, f"{name}={json.dumps(entry)}", None) == (name, entry)


def test_reports_of_several_attacks_find_all_on_each_network() -> None:
    """`select_attacks` refuses a network that has some of them, after all have been run."""
    kinds_checked = set()
    for path in CONFIGS:
        networks = read(path)["networks"]
        for _, name, entry in entries(path):
            if entry.get("kind") in KINDS_OF_SEVERAL_ATTACKS:
                attacks = set(entry["attacks"])
                for network in networks:
                    on_network = attacks & set(network["attacks"])
                    assert on_network in (set(), attacks), (path, name, network["dataset"])
                kinds_checked.add(entry["kind"])
    assert kinds_checked == KINDS_OF_SEVERAL_ATTACKS


def test_a_key_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "attacks:\n  pgd: {kind: pgd}\n  pgd: {kind: pgd, steps: 1}\n", encoding="utf-8"
    )
    message = rf"^{re.escape(str(path))}: not YAML: line 3: key 'pgd' a second time$"
    with pytest.raises(IrpipeError, match=message):
        yaml_reader.read_yaml(path)
