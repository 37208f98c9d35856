"""The configs that the project ships."""

from pathlib import Path

import pytest

from irpipe import config

CONFIGS = sorted(config.SHIPPED.glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_name_can_be_looked_up(path: Path) -> None:
    """No two of them differ in a name, so that `irpipe evaluate --attack pgd` works without --config."""
    checked = config.check(config.read(path), str(path))
    for section in (*config.CATEGORIES, "recipes"):
        for name, entry in checked[section].items():
            assert config.lookup(section, name, None) == entry
