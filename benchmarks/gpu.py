"""Test, compare and time irpipe on this machine's GPU, and write one JSON file a table.

python -m benchmarks.gpu --data FOLDER --released FOLDER [--output FOLDER]

The tests marked `gpu` come first, then benchmarks.portability, then PGD of the paper's tables and
an epoch of each method, against other programs on the same GPU. `make docs RESULTS=results` then
puts them on the page docs/benchmarks_gpu.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks import pgd, training
from benchmarks.common import Row, Setup, comparison, measurement, released_files, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe.documents.measurements import write_measurement
from irpipe.runtime.device import select_device

ROOT = Path(__file__).resolve().parents[1]
PAIRS = (("mnist", "small"), ("mnist", "pool"), ("cifar10", "small"), ("cifar10", "wresnet"))
N_IMAGES = 200  # of the paper's tables
PLAIN_STEPS = 20  # of the plain port; an epoch takes proportionally longer
MAX_TABLES_SECONDS = 60.0
MAX_EPOCH_SECONDS = {"adv": 2.5, "int": 4.0}
MIN_RATIO = 5.0  # of the plain port's time
NO_GPU = "benchmarks.gpu: this torch sees no GPU; run it on a machine with one"


def pgd_tables(setup: Setup) -> Iterator[Row]:
    """Time PGD on all released networks of each data set and model."""
    for dataset, model in PAIRS:
        paths = [setup.checkpoint(dataset, model, name) for name in released_files(dataset, model)]
        # The first call reads code and data into memory, so it is not timed.
        pgd.irpipe_accuracies(paths[0], setup.data, 2, setup.device)
        begin = time.perf_counter()
        for path in paths:
            pgd.irpipe_accuracies(path, setup.data, N_IMAGES, setup.device)
        seconds = time.perf_counter() - begin
        yield {"network": f"{dataset} {model}", "methods": len(paths), "irpipe, s": seconds}


def pgd_comparisons(setup: Setup) -> Iterator[Row]:
    """Compare PGD on Int with torchattacks and with the plain port."""
    for dataset, model in PAIRS:
        for other in ("torchattacks", "released loop"):
            yield pgd.compare(setup, dataset, model, "int", N_IMAGES, other)


def epochs(setup: Setup) -> Iterator[Row]:
    """Compare an epoch of each method, but for its first step, with the plain port."""
    for method in training.METHODS:
        trainer, take_step = training.irpipe_step(method, setup.data, setup.device)
        images = trainer.training.images[: training.BATCH_SIZE].to(setup.device)
        labels = trainer.training.labels[: training.BATCH_SIZE].to(setup.device)
        network = PlainNetwork(trainer.network)
        take_plain_step = training.plain_step(method, network, images, labels)
        take_step()  # not timed
        take_plain_step()
        n_steps = trainer.n_steps - 1
        _, (seconds, plain_seconds) = time_in_turns(
            1, partial(_repeat, take_step, n_steps), partial(_repeat, take_plain_step, PLAIN_STEPS)
        )
        plain_epoch = [n_steps / PLAIN_STEPS * value for value in plain_seconds]
        equal = "not compared: random starts"
        yield comparison(method, "plain autograd", seconds, plain_epoch, equal)


def _repeat(function: Callable[[], object], count: int) -> None:
    for _ in range(count):
        function()


def goals(tables: list[Row], epochs: list[Row]) -> Iterator[Row]:
    """What we aim at on an H100, from the rows of `pgd_tables` and `epochs`."""
    seconds = sum(row["irpipe, s"] for row in tables)
    yield _goal(f"PGD tables in {MAX_TABLES_SECONDS:.0f} s", seconds, seconds <= MAX_TABLES_SECONDS)
    for row in epochs:
        limit = MAX_EPOCH_SECONDS.get(row["work"])
        if limit:
            seconds = row["irpipe, s"]
            yield _goal(f"epoch of {row['work']} in {limit} s", seconds, seconds <= limit)
    ratio = min(row["ratio"] for row in epochs)
    goal = f"every epoch {MIN_RATIO:.0f} times faster than plain autograd"
    yield _goal(goal, ratio, ratio >= MIN_RATIO)


def _goal(goal: str, measured: float, is_met: bool) -> Row:
    return {"goal": goal, "measured": measured, "met": "yes" if is_met else "no"}


def measure(setup: Setup) -> dict[str, list[Row]]:
    """Run all benchmarks; return the rows of each table of the page."""
    tables, compared, trained = (
        list(rows(setup)) for rows in (pgd_tables, pgd_comparisons, epochs)
    )
    return {
        "gpu_goals": list(goals(tables, trained)),
        "gpu_pgd_tables": tables,
        "gpu_pgd": compared,
        "gpu_training": trained,
    }


def write(tables: dict[str, list[Row]], device: torch.device, folder: Path) -> None:
    """Write each table that `measure` returns as a measurement; print it, then its path."""
    for name, rows in tables.items():
        for row in rows:
            print(*row.values(), sep="  ")
        made = measurement(name, sys.modules[__name__], rows, device)
        print(write_measurement(folder, made))


def main() -> None:
    """Test, compare, measure, and write the files; decline where there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--released", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("results/measurements"))
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(NO_GPU)
    folders = ["--data", str(args.data), "--released", str(args.released)]
    run = partial(subprocess.run, check=True, cwd=ROOT)
    # Another torch may warn of other things.
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default"]
    run(tests, env=os.environ | {"IRPIPE_GPU_TESTS": "1"})
    portability = [sys.executable, "-m", "benchmarks.portability", *folders]
    run([*portability, "--output", str(args.output.resolve())])
    device = select_device("cuda")
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(args.data, args.released, Path(scratch), rounds=1, device=device)
        write(measure(setup), device, args.output)


if __name__ == "__main__":
    main()
