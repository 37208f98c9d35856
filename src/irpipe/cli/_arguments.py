"""Arguments that several commands take, and how they are read."""

import argparse
import json
from pathlib import Path
from typing import Any

from irpipe import config
from irpipe.config.yaml_reader import parse_yaml
from irpipe.errors import IrpipeError
from irpipe.files import ensure_writable
from irpipe.option_types import MODELS
from irpipe.outside_code import is_outside

ENTRY = "a name from the configs, or a new entry NAME={kind: ..., ...}"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config."""
    text = "look names up in this config instead of those in config/"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def add_code(parser: argparse.ArgumentParser) -> None:
    """Add --code."""
    text = "refuse to run unless the code has this hash (the workflow sets it)"
    parser.add_argument("--code", metavar="HASH", help=text)


def add_entries(parser: argparse.ArgumentParser, *nouns: str) -> None:
    """Add a required argument for each of these: dataset, method, recipe, attack."""
    for noun in nouns:
        parser.add_argument(f"--{noun}", required=True, metavar="NAME", help=ENTRY)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    text = "folder of the data sets (else IRPIPE_DATA, else data)"
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add --model."""
    text = "small, pool, wresnet, or a file ./FILE.py beside the config"
    parser.add_argument("--model", required=True, type=_model, help=text)


def _model(text: str) -> str:
    """The model of that name, or of the file `./FILE.py` beside the config."""
    models = MODELS[:-1]  # `own` cannot be built
    if text not in models and not is_outside(text):
        raise argparse.ArgumentTypeError(f"neither {', '.join(models)} nor ./FILE.py: '{text}'")
    return text


def add_output(parser: argparse.ArgumentParser, metavar: str, text: str | None = None) -> None:
    """Add --output."""
    parser.add_argument("--output", type=Path, required=True, metavar=metavar, help=text)


def read_entry(section: str, argument: str, path: Path | None) -> tuple[str, dict[str, Any]]:
    """Name and resolved options of an argument `NAME` or `NAME={...}`.

    A name alone is looked up in the config at `path`, or in all configs of the project if `path`
    is None. Raises IrpipeError if there is no such entry, or if it is wrong.
    """
    # In a locale without UTF-8, such as C, Python keeps the bytes of other letters as surrogates.
    argument = argument.encode(errors="surrogateescape").decode(errors="surrogateescape")
    name, equals, text = argument.partition("=")
    if not equals:
        return name, config.lookup(section, name, path)
    try:
        # The workflow writes JSON. YAML would read the 1e-05 of JSON as text.
        entry = json.loads(text)
    except (ValueError, RecursionError):
        entry = parse_yaml(text, f"{section}.{name}")
    config.check_name(name, section)
    return name, config.resolve_named(section, entry, f"{section}.{name}")


def require_code(code_hash: str, expected: str | None) -> str:
    """Return `code_hash`. Raises IrpipeError if it is not `expected`; None expects nothing.

    The code may have changed while a job of the workflow waited.
    """
    if expected not in (None, code_hash):
        raise IrpipeError(
            f"--code {expected}: the code is now {code_hash}; start the workflow again"
        )
    return code_hash


def require_output(path: Path, what: str, suffix: str, option: str = "--output") -> None:
    """Raise IrpipeError unless `what` can be written at `path`, whose suffix must be this one.

    So a slip replaces no file of another kind. `option` named the path.
    """
    if path.suffix != suffix:
        raise IrpipeError(f"{option} {path}: {what} are written as NAME{suffix}")
    ensure_writable(path)
