"""`irpipe verify`: find damaged outputs; with --remove, let the workflow make them again.

It also checks certificates again, and attacks against them.
"""

import argparse
from pathlib import Path

from irpipe.cli import _arguments
from irpipe.cli._proof_checks import ProofChecks
from irpipe.errors import IrpipeError
from irpipe.results.verify import find_damaged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_data(parser)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results"), metavar="FOLDER")
    text = "remove them, so that the workflow makes them again"
    parser.add_argument("--remove", action="store_true", help=text)


def run(args: argparse.Namespace) -> None:
    """Print what is damaged.

    Raises IrpipeError if a damaged file stays, and as `ProofChecks.run` does.
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
    ProofChecks(args.folder, args.data).run()
