"""Find outputs that are damaged, so that they can be made again: after a crash of the machine, or of its disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irpipe import io
from irpipe.errors import IrpipeError


def damaged(folder: Path) -> dict[Path, str]:
    """Files below `folder` that are not whole, each with what is wrong with it.

    Networks, training logs, results and records of data sets hold what proves that they are whole. Tables and figures
    hold nothing of the kind, so they are not looked at: they are made again in seconds. Raises IrpipeError if there is
    no such folder.
    """
    if not folder.is_dir():
        raise IrpipeError(f"{folder}: no such folder; expected one of results")
    readers: dict[str, Callable[[Path], Any]] = {
        "*.safetensors": io.read_checkpoint,
        "*.h5": io.read_result,
        "network.csv": io.read_log,
        "data/*.json": _record,
    }
    found: dict[Path, str] = {}
    for pattern, read in readers.items():
        for path in sorted(folder.rglob(pattern)):
            try:
                read(path)
            except IrpipeError as error:
                found[path] = str(error)
    return found


def _record(path: Path) -> None:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IrpipeError(f"{path}: not a readable record of a data set; make it again") from error
