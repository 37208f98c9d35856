"""What all benchmarks share: a comparison, a clock that takes turns, and released networks."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irpipe import config
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.released import read_released


@dataclass(frozen=True)
class Comparison:
    """The seconds that irpipe and another program need for the same `work`.

    `ratio` is the other program's time over irpipe's. `equal` says how equal their results are.
    """

    work: str
    other: str
    irpipe_seconds: float
    other_seconds: float
    ratio: float
    equal: str


@dataclass(frozen=True)
class Setup:
    """Folders of data sets, of released networks and for temporary files.

    `rounds` is how often each side is timed.
    """

    data: Path
    released: Path
    scratch: Path
    rounds: int

    def checkpoint(self, dataset: str, model: str, method: str) -> Path:
        """Write a checkpoint of a released network, by the names of config/released.yaml."""
        path = self.scratch / f"{dataset}_{model}_{method}.safetensors"
        file = self.released / _released_file(dataset, model, method)
        data = config.lookup("datasets", dataset, None)
        write_checkpoint(path, read_released(file, dataset, data, model, method))
        return path


def _released_file(dataset: str, model: str, method: str) -> str:
    """Return the name of a released file; raise LookupError if there is none."""
    content = yaml.safe_load((config.CONFIG_FOLDER / "released.yaml").read_text(encoding="utf-8"))
    for entry in content["networks"]:
        is_same = (entry["dataset"], entry["model"]) == (dataset, model)
        if is_same and method in entry["released_files"]:
            return str(entry["released_files"][method])
    raise LookupError(f"config/released.yaml: no network {dataset}/{model}/{method}")


def time_in_turns(
    rounds: int, *functions: Callable[[], Any]
) -> tuple[list[Any], list[list[float]]]:
    """Call the functions in turns; return the last result of each and the seconds of each call.

    They take turns, so that a busy machine slows all of them alike.
    """
    results: list[Any] = [None] * len(functions)
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for index, function in enumerate(functions):
            begin = time.perf_counter()
            results[index] = function()
            seconds[index].append(time.perf_counter() - begin)
    return results, seconds


def comparison(
    work: str,
    other: str,
    irpipe_seconds: Sequence[float],
    other_seconds: Sequence[float],
    equal: str,
) -> Comparison:
    """Return the medians of both sides and of the ratio, which is taken round by round."""
    ratios = [
        other_time / irpipe_time
        for irpipe_time, other_time in zip(irpipe_seconds, other_seconds, strict=True)
    ]
    return Comparison(
        work,
        other,
        statistics.median(irpipe_seconds),
        statistics.median(other_seconds),
        statistics.median(ratios),
        equal,
    )
