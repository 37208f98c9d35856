"""Load a checkpoint as a network that attacks can use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from irpipe.datasets import facts
from irpipe.networks.architectures import build_with_weights
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network


@dataclass(frozen=True)
class LoadedNetwork:
    """A network to attack and what its results say of it.

    `folded` is `network` for loops that change only images. `metadata` names data set, data,
    model, method and run. `sha256` identifies the network in results.
    """

    network: Network
    folded: FoldedNetwork
    metadata: dict[str, Any]
    sha256: str


def load_network(checkpoint: Checkpoint, location: Path) -> Network:
    """Return the network of a checkpoint in eval mode, its weights fixed.

    Raises IrpipeError, naming `location`, if the checkpoint does not fit its model.
    """
    metadata = checkpoint.identity(location)
    dataset = facts(metadata["data"])
    network = build_with_weights(
        metadata["model"],
        dataset.shape,
        len(dataset.class_names),
        checkpoint.tensors,
        str(location),
    )
    return network.requires_grad_(False).eval()


def load_for_attack(path: Path, device: torch.device) -> LoadedNetwork:
    """Return the network in the checkpoint at `path`; raise IrpipeError if there is none."""
    checkpoint = read_checkpoint(path)
    metadata = checkpoint.identity(path)
    network = load_network(checkpoint, path).move_to(device)
    folded = FoldedNetwork(network, facts(metadata["data"]).shape)
    return LoadedNetwork(network, folded, metadata, checkpoint.sha256)
