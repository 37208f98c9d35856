"""`irpipe verify`: find damaged outputs; with --remove, let the workflow make them again.

It also checks proofs against attacks.
"""

import argparse
from pathlib import Path

from irpipe.analysis.cross_check import cross_check
from irpipe.cli import _arguments
from irpipe.errors import IrpipeError
from irpipe.files import files_below
from irpipe.results.result import read_result
from irpipe.results.verify import find_damaged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), metavar="FOLDER")
    text = "remove them, so that the workflow makes them again"
    parser.add_argument("--remove", action="store_true", help=text)


def run(args: argparse.Namespace) -> None:
    """Print what is damaged.

    Raises IrpipeError if a damaged file stays, or if an attack breaks an image that is certified.
    """
    damaged = find_damaged(args.folder)
    for path, message in damaged.items():
        if args.remove:
            path.unlink(missing_ok=True)
        print(f"{message}; removed" if args.remove else message)
    if not damaged:
        print(f"{args.folder}: nothing is damaged")
    elif args.remove:
        print(f"{args.folder}: {len(damaged)} removed; run the workflow")
    else:
        raise IrpipeError(
            f"{args.folder}: {len(damaged)} damaged; "
            "remove them with --remove, then run the workflow"
        )
    _check_proofs(args.folder)


def _check_proofs(folder: Path) -> None:
    """Check that no attack breaks an image that is certified."""
    paths = [path for path in files_below(folder) if path.suffix == ".h5"]
    comparisons = cross_check(map(read_result, paths))
    if comparisons:
        n_within = sum(comparison.n_within for comparison in comparisons)
        print(f"{folder}: of {n_within} adversarial images within a certified eps, all are correct")
