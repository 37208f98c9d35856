"""Run the benchmarks and write one JSON file of measurements each.

python -m benchmarks --data FOLDER --released FOLDER [--rounds 3] [--only pgd maps ...]

`make docs RESULTS=results` then puts them on the page docs/benchmarks.md.
"""

import argparse
import tempfile
from pathlib import Path

import step_costs

from benchmarks import (
    autoattack,
    certified,
    kendall,
    maps,
    peak,
    pgd,
    scaling,
    training,
    unforeseen,
)
from benchmarks.common import Setup, measurement
from irpipe.documents.measurements import write_measurement
from irpipe.runtime.device import select_device

MODULES = (
    pgd,
    training,
    kendall,
    maps,
    unforeseen,
    autoattack,
    certified,
    peak,
    step_costs,
    scaling,
)


def main() -> None:
    """Run each benchmark and write its file."""
    modules = {module.__name__.rpartition(".")[2]: module for module in MODULES}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--released", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=modules, default=list(modules))
    parser.add_argument("--output", type=Path, default=Path("results/measurements"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        device = select_device("cpu")
        setup = Setup(args.data, args.released, Path(scratch), args.rounds, device)
        for name in args.only:
            rows = []
            for row in modules[name].rows(setup):
                print(*row.values(), sep="  ", flush=True)
                rows.append(row)
            print(write_measurement(args.output, measurement(name, modules[name], rows, device)))


if __name__ == "__main__":
    main()
