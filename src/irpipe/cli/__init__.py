"""The command line: one file per command, each with `add_arguments(parser)` and `run(args)`.

The workflow calls these commands, and they work by hand in the same form. Bad input ends in one
line on standard error and exit code 2; nothing is written then. Commands import torch inside
`run`, so that those without it start at once.
"""

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

import irpipe
from irpipe.cli._failures import (
    is_of_used_files,
    machine_failure,
    own_code_failure,
    print_traceback,
)
from irpipe.errors import IrpipeError
from irpipe.outside_code import code_lies_beside

# Command: its module in this package, and its help text.
COMMANDS = {
    "check": ("check_config", "Check a config: every name, kind, key and number."),
    "verify": (
        "verify_outputs",
        "Find damaged outputs: networks, logs, results, data records, tables, figures.",
    ),
    "data": ("check_data", "Check that a data set is complete, or fetch it; record its hash."),
    "import": ("import_released", "Turn a released network (.pkl) into a checkpoint."),
    "train": ("train", "Train a network by a recipe; resumes where it was interrupted."),
    "evaluate": ("evaluate", "Attack a network; print accuracy per eps and step count."),
    "stress": (
        "stress",
        "Attack any network with strong attacks; look for masked gradients.",
    ),
    "rescore": ("rescore", "Score saved adversarial images by one forward pass."),
    "report": ("report", "Make a table or a figure from results and training logs."),
    "page": ("page", "Put all tables and figures of a config into one page."),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="irpipe", description=irpipe.__doc__)
    parser.add_argument("--version", action="version", version=irpipe.__version__)
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    for name, (module_name, text) in COMMANDS.items():
        module = importlib.import_module(f"irpipe.cli.{module_name}")
        command = subparsers.add_parser(name, help=text, description=text)
        module.add_arguments(command)
        command.add_argument(
            "--debug", action="store_true", help="print the traceback of an error, too"
        )
        command.set_defaults(run_command=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    # A letter that a terminal cannot show, such as an epsilon in ASCII, is printed as its escape.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(arguments)
    try:
        with code_lies_beside(getattr(args, "config", None)):
            args.run_command(args)
    except (Exception, SystemExit) as error:
        line = str(error) if isinstance(error, IrpipeError) else machine_failure(error)
        is_theirs = not line and is_of_used_files(error)
        message = line or own_code_failure(error, is_theirs=is_theirs)
        if not message:
            raise
        # What no file next to the config raised may be a defect of irpipe.
        if args.debug or not (line or is_theirs):
            print_traceback(error)
        print(f"irpipe {args.command}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"irpipe {args.command}: interrupted", file=sys.stderr)
        return 130
    return 0
