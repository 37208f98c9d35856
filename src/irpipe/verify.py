"""Find outputs that are damaged, so that they can be made again: after a crash of the machine, or of its disk."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irpipe import io
from irpipe.errors import IrpipeError

SEAL = ".sha256"  # suffix of seals


def damaged(folder: Path) -> dict[Path, str]:
    """Files below `folder` that are not whole, each with what is wrong with it.

    Networks, training logs, results and records of data sets hold what proves that they are whole; tables and figures
    have a `seal` beside them. Raises IrpipeError if there is no such folder.
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
    for path in sorted(folder.rglob(f"*{SEAL}")):
        found |= _broken(path)
    return found


def seal(path: Path, files: Sequence[Path]) -> None:
    """Write what `files` below the folder of `path` hold, as `sha256sum --check` reads it, and what these lines do."""
    lines = "".join(f"{_sha256(file)}  {os.path.relpath(file, path.parent)}\n" for file in files)
    with io.replacing(path) as beside:
        beside.write_text(lines + _last(lines))


def _sha256(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _last(lines: str) -> str:
    return f"# sha256 of the lines above: {hashlib.sha256(lines.encode()).hexdigest()}\n"


def _broken(path: Path) -> dict[Path, str]:
    """What is wrong with a seal, or with the files that it is of."""
    try:
        *lines, last = path.read_text().splitlines(keepends=True)
    except (OSError, ValueError):
        lines, last = [], ""
    if last != _last("".join(lines)):
        return {path: f"{path}: not a readable seal of tables or figures; make it again"}
    found = {}
    for digest, name in (line.rstrip("\n").split("  ", 1) for line in lines):
        file = path.parent / name
        if not file.is_file() or _sha256(file) != digest:
            found[file] = f"{file}: not what {path.name} says of it; make it again"
    return found


def _record(path: Path) -> None:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise IrpipeError(f"{path}: not a readable record of a data set; make it again") from error
