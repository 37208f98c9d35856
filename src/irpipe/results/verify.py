"""Find damaged outputs, so that they can be made again after a crash of the machine or its disk.

Nothing here affects a number.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irpipe.errors import IrpipeError
from irpipe.files import atomic_write, files_below
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.data_record import read_data_record
from irpipe.results.result import read_result
from irpipe.results.training_log import read_training_log

# Suffix of the checksum files next to tables and figures.
CHECKSUM_SUFFIX = ".sha256"


def find_damaged(folder: Path) -> dict[Path, str]:
    """Damaged files below `folder`: path -> what is wrong with it.

    Checkpoints, training logs, results and data records show by themselves whether they are
    complete; tables and figures have a checksum file. Links to folders are followed. Raises
    IrpipeError if there is no such folder, or if one below it cannot be listed.
    """
    if not folder.is_dir():
        raise IrpipeError(f"{folder}: no such folder; expected a folder of results")
    readers: dict[str, Callable[[Path], Any]] = {
        "*.safetensors": read_checkpoint,
        "*.h5": read_result,
        "training_log.csv": read_training_log,
        "data/*.json": read_data_record,
    }
    damaged: dict[Path, str] = {}
    files = sorted(files_below(folder))
    for pattern, read in readers.items():
        for path in files:
            if path.match(pattern):
                try:
                    read(path)
                except IrpipeError as error:
                    damaged[path] = str(error)
    for path in files:
        if path.suffix == CHECKSUM_SUFFIX:
            damaged |= _check_checksums(path)
    return damaged


def write_checksums(path: Path, files: Sequence[Path]) -> None:
    """Write a checksum file: the SHA-256 of `files`, in the format of `sha256sum --check`.

    The last line is a comment with the SHA-256 of the lines above. It shows whether the list was
    cut short.
    """
    lines = "".join(f"{_sha256(file)}  {os.path.relpath(file, path.parent)}\n" for file in files)
    with atomic_write(path) as temporary:
        temporary.write_text(lines + _trailer(lines), encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def _trailer(lines: str) -> str:
    return f"# sha256 of the lines above: {hashlib.sha256(lines.encode()).hexdigest()}\n"


def _check_checksums(path: Path) -> dict[Path, str]:
    """The damaged files of a checksum file, or the checksum file itself: path -> what is wrong."""
    try:
        *lines, trailer = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        lines, trailer = [], ""
    if trailer != _trailer("".join(lines)):
        message = f"{path}: not a readable checksum file of tables or figures; make it again"
        return {path: message}
    damaged = {}
    for line in lines:
        sha256, name = line.rstrip("\n").split("  ", 1)
        file = path.parent / name
        if not file.is_file() or _sha256(file) != sha256:
            damaged[file] = f"{file}: does not match its SHA-256 in {path.name}; make it again"
    return damaged
