"""Fixtures of the tests of networks."""

from pathlib import Path

import pytest
from external_networks import write_three_forms


@pytest.fixture(scope="session")
def three_forms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network as a checkpoint, a torch.export file and a function."""
    folder = tmp_path_factory.mktemp("three_forms")
    write_three_forms(folder)
    return folder
