"""Which predictions under attack depend on the machine? Writes measurements for `make docs`.

python -m benchmarks.portability --data FOLDER --released FOLDER [--python PYTHON ...]

PGD on the released networks Small of MNIST and CIFAR-10 runs once for each instruction set that
this machine has, on its GPU if there is one, and once with each other PYTHON (another torch).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Row, Setup, measurement
from irpipe import config
from irpipe.datasets import load
from irpipe.documents.measurements import write_measurement
from irpipe.evaluation import evaluate_network
from irpipe.networks.load import load_for_attack
from irpipe.published import DATASETS, METHODS, PGD_TABLES, published_table
from irpipe.results.accuracy import accuracy
from irpipe.results.labels import eps_label
from irpipe.results.result import Result, read_result, write_result
from irpipe.runtime.device import select_device

ROOT = Path(__file__).resolve().parents[1]
# ATEN_CPU_CAPABILITY: the largest instruction set that torch's own kernels use.
CAPABILITIES = ("default", "avx2", "avx512")


@dataclass(frozen=True)
class Run:
    """One pass over all networks: what it ran on, and its results by data set and method."""

    name: str
    results: dict[tuple[str, str], Result]


def measure(data: Path, released: Path, device: str, output: Path) -> None:
    """Attack all networks and write their results below `output`."""
    options = config.resolve_named("attacks", config.lookup("attacks", "pgd", None), "pgd")
    chosen = select_device(device)
    setup = Setup(data, released, output, 1, chosen)
    for dataset in ("mnist", "cifar10"):
        test = load(config.lookup("datasets", dataset, None), data, "test")
        for method in METHODS:
            network = load_for_attack(setup.checkpoint(dataset, "small", method), chosen)
            result = evaluate_network(network, "pgd", options, test, chosen, "portability")
            write_result(output / f"{dataset}-{method}.h5", result)


def run_all(data: Path, released: Path, pythons: list[str], scratch: Path) -> Iterator[Run]:
    """Yield the runs, that of this Python and the machine's own instruction set first."""
    own = torch.backends.cpu.get_cpu_capability().lower()
    slower = CAPABILITIES[: CAPABILITIES.index(own)] if own in CAPABILITIES else ()
    plans = [(sys.executable, own, "cpu")]
    plans += [(sys.executable, capability, "cpu") for capability in slower]
    plans += [(python, own, "cpu") for python in pythons]
    if torch.cuda.is_available():
        plans.append((sys.executable, own, "cuda"))
    for number, (python, capability, device) in enumerate(plans):
        folder = scratch / str(number)
        folder.mkdir()
        command = [python, "-m", "benchmarks.portability", "--measure", str(folder)]
        command += ["--data", str(data), "--released", str(released), "--device", device]
        environment = os.environ | {
            "ATEN_CPU_CAPABILITY": capability,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        }
        subprocess.run(command, check=True, env=environment, cwd=ROOT)
        yield read_run(folder)


def read_run(folder: Path) -> Run:
    """Read the results that `measure` wrote."""
    results = {}
    for path in sorted(folder.glob("*.h5")):
        dataset, method = path.stem.split("-", 1)
        results[dataset, method] = read_result(path)
    attrs = next(iter(results.values())).attrs
    where = attrs["machine"]["cpu_capability"]
    if attrs["device"] != "cpu":
        where = attrs["versions"]["device"]
    return Run(f"torch {attrs['versions']['torch']}, {where}", results)


def flips(reference: Run, run: Run) -> list[Row]:
    """The cells, and the images in them, whose correctness differs from the reference."""
    found: list[Row] = []
    for (dataset, method), result in run.results.items():
        expected = reference.results[dataset, method]
        differs = result.arrays["correct"] != expected.arrays["correct"]
        for i, j in np.argwhere(differs.any(axis=0)):
            images = expected.arrays["indices"][differs[:, i, j]]
            eps = eps_label(float(expected.arrays["eps"][i]))
            steps = int(expected.arrays["steps"][j])
            found.append(
                {
                    "run": run.name,
                    "network": f"{DATASETS[dataset]} Small {METHODS[method]}",
                    "eps": eps,
                    "steps": steps,
                    "images": ", ".join(map(str, images)),
                }
            )
    return found


def n_published_cells(run: Run) -> tuple[int, int]:
    """How many published cells a run has, and how many of them equal the published value."""
    n_equal = n_cells = 0
    for table in PGD_TABLES:
        for key, published in published_table(table).items():
            result = run.results.get((key.dataset, key.method))
            if key.model != "small" or result is None or key.eps is None or key.steps is None:
                continue
            measured = accuracy(result, key.eps, key.steps)
            if measured is not None:
                n_cells += 1
                n_equal += abs(measured.value - published.value) < 0.5 / measured.n
    return n_cells, n_equal


def rows(runs: list[Run]) -> tuple[list[Row], list[Row]]:
    """One row per run, and one per cell whose images differ from the first run's."""
    reference = runs[0]
    run_rows: list[Row] = []
    flip_rows: list[Row] = []
    for run in runs:
        differing = flips(reference, run)
        flip_rows += differing
        n_cells, n_equal = n_published_cells(run)
        n_all = sum(result.arrays["correct"][0].size for result in run.results.values())
        run_rows.append(
            {
                "run": run.name,
                "published cells": n_cells,
                "equal to the published value": n_equal,
                "cells unlike the first row": f"{len(differing)} of {n_all}",
            }
        )
    return run_rows, flip_rows


def main() -> None:
    """Measure everything and write it, or, with --measure, one run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--released", type=Path, required=True)
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--output", type=Path, default=Path("results/measurements"))
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.measure:
        measure(args.data, args.released, args.device, args.measure)
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = list(run_all(args.data, args.released, args.python, Path(scratch)))
    for name, found in zip(("portability", "portability_flips"), rows(runs), strict=True):
        print(*(row.values() for row in found), sep="\n")
        made = measurement(name, sys.modules[__name__], found, torch.device("cpu"))
        print(write_measurement(args.output, made))


if __name__ == "__main__":
    main()
