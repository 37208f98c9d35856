"""Run irpipe's commands in this process, on networks for the data set digits."""

from pathlib import Path
from typing import Any

from made_batches import DIGIT_SHAPE, fit_head, make_network

from irpipe import cli
from irpipe.networks.checkpoint import Checkpoint, write_checkpoint
from irpipe.networks.network import Network

METADATA: dict[str, Any] = {
    "dataset": "digits",
    "data": {"kind": "digits"},
    "model": "small",
    "method": "int",
    "run": "seed0",
}
# A recipe, an attack and a table of it, as arguments of a command.
RECIPE = (
    "tiny={batch_size: 200, epochs: 2, lr: [[0, 0.001]], eps_schedule: [[0, 1]], "
    "inner_steps: 1, inner_step_size: 0.05}"
)
ATTACK = "mine={kind: pgd, images: 30, steps: [1, 3], eps: [0, 0.002, 0.1]}"
TABLE = "mine={kind: accuracy_table, title: T, attack: mine, steps: 3}"


def run(*arguments: object) -> int:
    """The exit code of `irpipe ARGUMENTS`."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def evaluate(checkpoint: Path, attack: str, output: Path) -> int:
    """The exit code of `irpipe evaluate` on the CPU."""
    network = ("--checkpoint", checkpoint, "--device", "cpu")
    return run("evaluate", *network, "--attack", attack, "--output", output)


def write_network(path: Path, network: Network, **metadata: Any) -> Path:
    """Write a checkpoint with METADATA, except where `metadata` differ; return its path."""
    tensors = {name: value.detach() for name, value in network.state_dict().items()}
    write_checkpoint(path, Checkpoint(METADATA | metadata, tensors))
    return path


def write_fitted_network(path: Path, seed: int = 1, **metadata: Any) -> Path:
    """Write a checkpoint of a network with random weights and a fitted head; return its path."""
    network = make_network(seed, DIGIT_SHAPE, 10)
    fit_head(network)
    return write_network(path, network, **metadata)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Relative path -> content of all files below `folder`; None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
