"""The configs that the project ships."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from irpipe import commands, config
from irpipe.errors import IrpipeError

each = pytest.mark.parametrize("path", sorted(config.SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)


@each
def test_every_name_can_be_looked_up(path: Path) -> None:
    """No two of them differ in a name, so that `irpipe evaluate --attack pgd` works without --config."""
    checked = config.check(config.read(path), str(path))
    for section in (*config.CATEGORIES, "recipes"):
        for name, entry in checked[section].items():
            assert config.lookup(section, name, None) == entry


@each
def test_every_entry_survives_the_command_line(path: Path) -> None:
    """The workflow hands entries over as JSON, whose 1e-05 is text to a YAML reader."""
    checked = config.check(config.read(path), str(path))
    for section in (*config.CATEGORIES, "recipes"):
        for name, entry in checked[section].items():
            given = f"{name}={json.dumps(entry)}"
            assert commands._entry(section, given, Namespace(config=None)) == (name, entry)


@each
def test_reports_of_several_attacks_find_all_on_each_network(path: Path) -> None:
    """`selection.together` refuses a network that has some of them, after all have been run."""
    checked = config.check(config.read(path))
    for section in ("tables", "figures"):
        for name, spec in checked[section].items():
            if spec["kind"] in ("unforeseen", "gallery"):
                wanted = set(spec["attacks"])
                for network in checked["networks"]:
                    assert wanted & set(network["attacks"]) in (set(), wanted), (name, network["dataset"])


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("attacks:\n  pgd: {kind: pgd}\n  pgd: {kind: pgd, steps: 1}\n")
    with pytest.raises(IrpipeError, match=rf"^{path}: not YAML: line 3: key 'pgd' a second time$"):
        config.read(path)
