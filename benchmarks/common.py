"""What all benchmarks share: rows, a clock that takes turns, and released networks."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from irpipe import code_hash, config
from irpipe.documents.measurements import Measurement
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.released import read_released
from irpipe.outside_code import imported_names, parse_file, source_path

Row = dict[str, Any]  # of a table of measurements, by column
CONFIGS = ("released.yaml", "restricted_imagenet.yaml")  # they name the released networks
LIBRARIES = ("torch", "torchattacks", "pyautoattack", "foolbox", "captum", "grad-cam", "scipy")


@dataclass(frozen=True)
class Setup:
    """Folders of data sets, of released networks and for temporary files; where to compute.

    `rounds` is how often each side is timed.
    """

    data: Path
    released: Path
    scratch: Path
    rounds: int
    device: torch.device

    def checkpoint(self, dataset: str, model: str, method: str) -> Path:
        """Write a checkpoint of a released network, by the names of `CONFIGS`."""
        path = self.scratch / f"{dataset}_{model}_{method}.safetensors"
        file = self.released / released_files(dataset, model)[method]
        data = config.lookup("datasets", dataset, None)
        write_checkpoint(path, read_released(file, dataset, data, model, method))
        return path


def released_files(dataset: str, model: str) -> dict[str, str]:
    """The names of the released files of a data set and model, by method."""
    files: dict[str, str] = {}
    for name in CONFIGS:
        content = yaml.safe_load((config.CONFIG_FOLDER / name).read_text(encoding="utf-8"))
        for entry in content["networks"]:
            if (entry["dataset"], entry["model"]) == (dataset, model):
                files |= entry["released_files"]
    return files


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
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            seconds[index].append(time.perf_counter() - begin)
    return results, seconds


def comparison(
    work: str,
    other: str,
    irpipe_seconds: Sequence[float],
    other_seconds: Sequence[float],
    equal: str,
) -> Row:
    """A row: what both did, the medians of both sides and of the ratio, and how equal they are.

    The ratio is the other program's time over irpipe's, round by round.
    """
    ratios = [
        other_time / irpipe_time
        for irpipe_time, other_time in zip(irpipe_seconds, other_seconds, strict=True)
    ]
    return {
        "work": work,
        "against": other,
        "irpipe, s": statistics.median(irpipe_seconds),
        "other, s": statistics.median(other_seconds),
        "ratio": statistics.median(ratios),
        "equal": equal,
    }


def measurement(
    name: str, module: ModuleType, rows: list[Row], device: torch.device
) -> Measurement:
    """A measurement of the benchmark `module` on a device.

    Its code hash covers the code of irpipe that it and its benchmarks import.
    """
    modules = sorted(_irpipe_imports(Path(str(module.__file__)), set()))
    return Measurement(name, machine(device), code_hash.code_hash(*modules), rows)


def _irpipe_imports(path: Path, read: set[Path]) -> set[str]:
    """The modules of irpipe that a benchmark imports, itself or by other benchmarks."""
    read.add(path)
    found: set[str] = set()
    for name in imported_names(parse_file(path)):
        package, _, module = name.partition(".")
        other = path.parent / f"{module}.py"
        if package == code_hash.PACKAGE and module and source_path(name, code_hash.SOURCE_FOLDER):
            found.add(name)
        elif package == path.parent.name and other.is_file() and other not in read:
            found |= _irpipe_imports(other, read)
    return found


def machine(device: torch.device) -> str:
    """The GPU if it is the device, processor, cores, threads and versions in one line."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cores = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES if _is_installed(name))
    threads = torch.get_num_threads()
    python = f"Python {platform.python_version()}"
    gpu = f"{torch.cuda.get_device_name(device)}; " if device.type == "cuda" else ""
    return f"{gpu}{cores[0]}, {len(cores)} cores, {threads} threads; {python}, {versions}"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
