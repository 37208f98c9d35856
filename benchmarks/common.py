"""What the benchmarks share: a line, a clock that takes turns, and the released networks."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from irpipe import config
from irpipe.io import write_checkpoint
from irpipe.released import convert


@dataclass(frozen=True)
class Line:
    """One comparison: the same `work` by irpipe and by another; seconds, and what of the two is equal."""

    work: str
    other: str
    ours: float
    theirs: float
    ratio: float
    equal: str


@dataclass(frozen=True)
class Setup:
    """Where data sets, released networks and a scratch folder are, and how often each side is timed."""

    data: Path
    released: Path
    scratch: Path
    rounds: int

    def checkpoint(self, dataset: str, model: str, method: str) -> Path:
        """A checkpoint of a released network, by the names of config/released.yaml."""
        for entry in yaml.safe_load((config.SHIPPED / "released.yaml").read_text())["networks"]:
            if (entry["dataset"], entry["model"]) == (dataset, model) and method in entry["released"]:
                name = entry["released"][method]
        path = self.scratch / f"{dataset}_{model}_{method}.safetensors"
        data = config.lookup("datasets", dataset, None)
        write_checkpoint(path, convert(self.released / name, dataset, data, model, method))
        return path


def in_turns(rounds: int, *functions: Callable[[], Any]) -> tuple[list[Any], list[list[float]]]:
    """What the functions return in the end, and the seconds of each call; they take turns, so that a noisy machine
    slows all alike."""
    results: list[Any] = [None] * len(functions)
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for place, function in enumerate(functions):
            begin = time.perf_counter()
            results[place] = function()
            seconds[place].append(time.perf_counter() - begin)
    return results, seconds


def line(work: str, other: str, ours: Sequence[float], theirs: Sequence[float], equal: str) -> Line:
    """Medians of both sides, and of the ratio round by round."""
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return Line(work, other, statistics.median(ours), statistics.median(theirs), ratio, equal)
