"""A network for the commands, and its result."""

from pathlib import Path

import pytest
from command_line import ATTACK, evaluate, write_fitted_network


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network that classifies some digits correctly, in a folder of its own."""
    return write_fitted_network(tmp_path / "in" / "net.safetensors", run="seed7")


@pytest.fixture
def result(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The result of the attack `mine` on the network."""
    path = checkpoint.with_name("result.h5")
    assert evaluate(checkpoint, ATTACK, path) == 0
    capsys.readouterr()
    return path
