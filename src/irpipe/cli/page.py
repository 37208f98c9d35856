"""`irpipe page`: put the tables and figures of a config into one page."""

import argparse
import json
from pathlib import Path
from typing import Any

from irpipe import code_hash, config
from irpipe.cli import _arguments
from irpipe.config.only import keep_only
from irpipe.config.yaml_reader import read_yaml
from irpipe.errors import IrpipeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    text = "the config whose tables and figures to show: a file, or its content as {...}"
    parser.add_argument("--config", required=True, metavar="CONFIG", help=text)
    _arguments.add_code(parser)
    text = "folder of the results"
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help=text)
    _arguments.add_output(parser, "FILE.html")


def run(args: argparse.Namespace) -> None:
    """Write the page and print its path."""
    from irpipe.reports.paper_page import write_page

    _arguments.require_code(code_hash.of_report("paper_page"), args.code)
    checked = keep_only(_read_config(args.config))
    print(write_page(checked, args.folder, args.output))


def _read_config(argument: str) -> dict[str, Any]:
    """The checked config in a file, or in JSON, as the workflow gives it."""
    if not argument.startswith("{"):
        return config.validate(read_yaml(Path(argument)), argument)
    try:
        return config.validate(json.loads(argument))
    except (ValueError, RecursionError) as error:
        raise IrpipeError(f"--config: not JSON ({error}); give a file") from error
