"""Load a network from elsewhere under the names that a config gives it."""

from pathlib import Path
from typing import Any

import torch

from irpipe.datasets import facts
from irpipe.errors import IrpipeError
from irpipe.networks.external import UnfoldedNetwork, load_external
from irpipe.networks.load import LoadedNetwork, load_for_attack
from irpipe.outside_code import external_file


def load_under_names(
    source: str, names: dict[str, str], data: dict[str, Any], device: torch.device
) -> LoadedNetwork:
    """Load the network that a config names `./...`, for results that say `names` of it.

    `names` are dataset, model, method and run; `data` is the resolved entry of the data set.
    Raises IrpipeError as `load_external` does, or if it is a checkpoint for other images.
    """
    path = external_file(source)
    metadata = names | {"data": data, "source": source}
    if path.suffix == ".safetensors":
        loaded = load_for_attack(path, device)
        _require_same_data(path, loaded.metadata["data"], data)
        return LoadedNetwork(
            loaded.network,
            loaded.folded,
            metadata | {"checkpoint": loaded.metadata},
            loaded.sha256,
        )
    dataset = facts(data)
    _, colon, function = source.partition(":")
    network, sha256 = load_external(
        f"{path}{colon}{function}", dataset.shape, len(dataset.class_names), device
    )
    metadata["notes"] = network.notes
    return LoadedNetwork(network, UnfoldedNetwork(network, dataset.shape), metadata, sha256)


def _require_same_data(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise IrpipeError if a checkpoint takes images of another shape or has other classes."""
    known, wanted = facts(found), facts(expected)
    if (known.shape, known.class_names) != (wanted.shape, wanted.class_names):
        raise IrpipeError(
            f"{path}: a network for {found['kind']}, of {len(known.class_names)} classes and "
            f"shape {list(known.shape)}; the config's data set has {len(wanted.class_names)} and "
            f"{list(wanted.shape)}"
        )
