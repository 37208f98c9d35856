"""`irpipe report`: make one table or figure from results."""

import argparse
from collections.abc import Callable
from pathlib import Path

from irpipe import code_hash
from irpipe.cli import _arguments
from irpipe.errors import IrpipeError
from irpipe.outside_code import import_kind, is_outside
from irpipe.results.job_costs import read_job_costs
from irpipe.results.result import read_result
from irpipe.results.training_log import read_training_log
from irpipe.results.verify import CHECKSUM_SUFFIX, write_checksums

# By suffix. Files with another suffix are results.
READERS = {".csv": read_training_log, "": read_job_costs}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    _arguments.add_config(parser)
    _arguments.add_code(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--table", metavar="NAME", help=_arguments.ENTRY)
    which.add_argument("--figure", metavar="NAME", help=_arguments.ENTRY)
    text = "results (.h5), training logs (.csv) or a folder of Snakemake's benchmark files"
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help=text)
    _arguments.add_output(parser, "FOLDER")


def run(args: argparse.Namespace) -> None:
    """Make the table or figure and the checksums of its files."""
    section = "tables" if args.table else "figures"
    name, options = _arguments.read_entry(section, args.table or args.figure, args.config)
    _arguments.require_code(code_hash.of_report(options["kind"]), args.code)
    kind = import_kind("reports", options["kind"])
    report: Callable[..., list[Path]] = kind.report
    keywords = {key: value for key, value in options.items() if key != "kind"}
    for path in args.results:
        # The costs of jobs are those of a folder; a file next to the config may show them, too.
        if path.is_dir() and options["kind"] != "job_costs" and not is_outside(options["kind"]):
            raise IrpipeError(f"{path}: is a folder; name the results in it, {path}/*.h5")
        if not path.exists():
            raise IrpipeError(
                f"{path}: no such file; expected results (.h5) or training logs (.csv)"
            )
    results = [READERS.get(path.suffix, read_result)(path) for path in args.results]
    paths = report(results, args.output / f"{section.removesuffix('s')}_{name}", **keywords)
    checksums = paths[0].with_suffix(CHECKSUM_SUFFIX)
    write_checksums(checksums, paths)
    print("\n".join(str(path) for path in (*paths, checksums)))
