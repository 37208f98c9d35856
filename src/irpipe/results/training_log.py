"""Training logs (CSV): one line per epoch. Each line has the SHA-256 of the complete log."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.files import CONTENT_SHA256_KEY, atomic_write, read_or_explain
from irpipe.results.result import Result

# Columns that name the network and what trained it.
METADATA_KEYS = ("dataset", "model", "method", "run", "device", "code_hash")


def write_training_log(
    path: Path, metadata: Mapping[str, str], lines: Sequence[Mapping[str, float | None]]
) -> None:
    """Write a training log as CSV.

    `lines` has one mapping per epoch; None becomes an empty cell. Each line of the file also holds
    `metadata` and the SHA-256 of the log without that column.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(_with_sha256([{**metadata, **line} for line in lines]))


def _with_sha256(lines: Sequence[Mapping[str, object]]) -> bytes:
    """Lines as CSV, each with the SHA-256 of the CSV without that column."""
    sha256 = hashlib.sha256(_as_csv(lines)).hexdigest()
    return _as_csv([{**line, CONTENT_SHA256_KEY: sha256} for line in lines])


def _as_csv(lines: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def read_training_log(path: Path) -> Result:
    """Read and verify a training log, as a Result whose attribute `attack` is "training".

    Its arrays are the numeric columns, `[epochs]`; an empty cell is NaN. Raises IrpipeError if the
    file is missing, cut short, not a training log of irpipe, or does not match its SHA-256.
    """
    result: Result = read_or_explain(path, "irpipe training log (CSV)", _load_log)
    return result


def _load_log(path: Path) -> Result:
    content = path.read_bytes()
    lines = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    if not lines:
        raise ValueError("no line of an epoch")
    if CONTENT_SHA256_KEY not in lines[0]:
        raise ValueError(f"no column {CONTENT_SHA256_KEY}")
    for line in lines:
        line.pop(CONTENT_SHA256_KEY, None)
    if _with_sha256(lines) != content:
        raise IrpipeError(
            f"{path}: cut short or damaged, its content does not match its SHA-256; make it again"
        )
    attrs = {key: lines[0][key] for key in METADATA_KEYS}
    columns = [key for key in lines[0] if key not in attrs]
    arrays = {key: np.array([float(line[key] or "nan") for line in lines]) for key in columns}
    attrs |= {"attack": "training", "kind": f"training of {attrs['method']}"}
    return Result(attrs, arrays)
