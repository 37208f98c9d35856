"""The networks that `irpipe stress --against` compares with: other networks, or their results."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irpipe.cli._stress_attacks import MAPS, StressAttacks
from irpipe.errors import IrpipeError
from irpipe.results.frame import ARRAYS, ATTRS
from irpipe.results.result import Result, read_result, require_parts

if TYPE_CHECKING:
    import torch

    from irpipe.datasets import Images
    from irpipe.networks.load import LoadedNetwork

    Load = Callable[[argparse.Namespace, torch.device], LoadedNetwork]


@dataclass
class Other:
    """One to compare with: its results are there, or `stress` has yet to make them."""

    name: str
    source: str
    results: list[Result] = field(default_factory=list)
    stress: StressAttacks | None = None

    def run(self, attacks: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """Attack a network that has no results yet; return why attacks failed."""
        if self.stress is None:
            return []
        for name, options in attacks:
            print(f"{self.name}, {name}:")
            self.stress.run(name, options)
        self.results = list(self.stress.results.values())
        return self.stress.failures


def open_others(
    args: argparse.Namespace,
    network: "LoadedNetwork",
    test: "Images",
    device: "torch.device",
    load: "Load",
) -> list[Other]:
    """What --against names, each with a name of its own; attacks nothing.

    Raises IrpipeError if one cannot be read or is not for the same test images.
    """
    taken = {str(network.metadata["method"])}
    others = []
    for source in args.against:
        folder = Path(source)
        if folder.is_dir():
            if folder.resolve() == args.output.resolve():
                raise IrpipeError(
                    f"--against {source}: this is the folder of --output, and its results would be "
                    "replaced; name another --output"
                )
            results = _read_folder(folder, test)
            other = Other(str(results[0].attrs["method"]), source, results)
        else:
            if ":" not in source and folder.suffix not in (".safetensors", ".pt2"):
                raise IrpipeError(
                    f"--against {source}: no such folder, and none of NET.safetensors, NET.pt2, "
                    "FILE.py:function and module:function"
                )
            changed = _arguments_for(args, source, network)
            loaded = load(changed, device)
            if loaded.metadata["data"] != network.metadata["data"]:
                raise IrpipeError(
                    f"--against {source}: is for the data set {loaded.metadata['dataset']} "
                    f"{json.dumps(loaded.metadata['data'])}, not "
                    f"{json.dumps(network.metadata['data'])}"
                )
            other = Other(str(loaded.metadata["method"]), source)
            other.stress = StressAttacks(changed, loaded, test, device)
        other.name = _free_name(other.name, taken)
        taken.add(other.name)
        if other.stress:
            other.stress.args.output = args.output / "against" / other.name
        others.append(other)
    return others


def _read_folder(folder: Path, test: "Images") -> list[Result]:
    """The results of a stress test, without the page's own; they must be of the same images."""
    paths = [path for path in sorted(folder.glob("*.h5")) if path.stem != MAPS]
    if not paths:
        raise IrpipeError(f"--against {folder}: no results (.h5) in this folder")
    results = [read_result(path) for path in paths]
    sha256 = test.sha256()
    for path, result in zip(paths, results, strict=True):
        require_parts(result, str(path), (*ATTRS, "options"), ARRAYS)
        if result.attrs["data_sha256"] != sha256:
            raise IrpipeError(f"--against {folder}: {path.name} is of another test set")
        if result.attrs["network_sha256"] != results[0].attrs["network_sha256"]:
            raise IrpipeError(
                f"--against {folder}: {paths[0].name} and {path.name} are of other networks"
            )
    return results


def _arguments_for(
    args: argparse.Namespace, source: str, network: "LoadedNetwork"
) -> argparse.Namespace:
    """The arguments of a stress test of `source` on the data set of `network`."""
    dataset = None
    if not source.endswith(".safetensors"):
        dataset = f"{network.metadata['dataset']}={json.dumps(network.metadata['data'])}"
    changed = {"checkpoint": source, "dataset": dataset, "name": None}
    return argparse.Namespace(**(vars(args) | changed))


def _free_name(name: str, taken: set[str]) -> str:
    """The name, or the name with the first number that makes it free: int, int_2, int_3, ..."""
    number = 2
    free = name
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    return free
