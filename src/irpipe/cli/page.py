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
    which = parser.add_mutually_exclusive_group(required=True)
    text = "the config whose tables and figures to show"
    which.add_argument("--config", type=Path, metavar="FILE", help=text)
    which.add_argument("--json", help="the same config as JSON (the workflow gives it)")
    _arguments.add_code(parser)
    text = "folder of the results"
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help=text)
    _arguments.add_output(parser, "FILE.html")


def run(args: argparse.Namespace) -> None:
    """Write the page and print its path."""
    from irpipe.reports.paper_page import write_page

    _arguments.require_code(code_hash.of_report("paper_page"), args.code)
    _arguments.require_output(args.output, "pages", ".html")
    checked = keep_only(_read_config(args.config, args.json))
    print(write_page(checked, args.folder, args.output))


def _read_config(path: Path | None, text: str | None) -> dict[str, Any]:
    """The checked config in a file or, without one, in JSON."""
    if path is not None:
        return config.validate(read_yaml(path), str(path))
    try:
        return config.validate(json.loads(text or ""))
    except (ValueError, RecursionError) as error:
        raise IrpipeError(f"--json: no JSON ({error}); give --config FILE") from error
