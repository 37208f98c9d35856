"""Results (HDF5): per-image arrays of one attack on one network, and what they come from (D.2).

A reader checks the SHA-256 of the file's bytes before HDF5 opens it, because damaged HDF5 can
crash the library.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.files import atomic_write, content_sha256, read_or_explain

# The HDF5 user block begins with this text, then has 64 hex digits.
RESULT_MAGIC = b"irpipe result, sha256 of what follows this block: "
USER_BLOCK_BYTES = 512


@dataclass(frozen=True)
class Result:
    """The result of one attack on one network. docs/result_format.md lists its contents.

    `attrs` are JSON values (dataset, model, method, run, attack, options, hashes, versions, ...).
    `arrays` have the image axis first, if they have one.
    `sha256` is the SHA-256 of the file that it was read from, without the user block, and `path`
    that file.
    """

    attrs: dict[str, Any]
    arrays: dict[str, np.ndarray]
    sha256: str = ""
    path: Path | None = None


def require_parts(result: Result, name: str, attrs: Iterable[str], arrays: Iterable[str]) -> None:
    """Raise IrpipeError, which names `name`, if an attack's result lacks an attribute or array."""
    missing = [f"attribute '{key}'" for key in attrs if key not in result.attrs]
    missing += [f"array '{key}'" for key in arrays if key not in result.arrays]
    if missing:
        raise IrpipeError(
            f"{name}: not the result of an attack by this version of irpipe, "
            f"it has no {missing[0]}; evaluate it again"
        )


def write_result(path: Path, result: Result) -> None:
    """Write a result as HDF5, atomically, and verify it by reading it back."""
    import h5py

    # HDF5 writes to memory: with a full disk below it, it can crash the process at its end.
    memory = io.BytesIO()
    with h5py.File(memory, "w", userblock_size=USER_BLOCK_BYTES) as file:
        for key, value in result.attrs.items():
            file.attrs[key] = json.dumps(value, sort_keys=True)
        for name, array in result.arrays.items():
            file.create_dataset(name, data=array, track_times=False)
    content = memory.getbuffer()[USER_BLOCK_BYTES:]
    with atomic_write(path) as temporary:
        with temporary.open("wb") as raw:
            raw.write(_user_block(hashlib.sha256(content).hexdigest()))
            raw.write(content)
        written = read_result(temporary)
        expected_sha256 = content_sha256(result.attrs, result.arrays)
        if content_sha256(written.attrs, written.arrays) != expected_sha256:
            raise OSError("reads back differently from what was written")


def _user_block(sha256: str) -> bytes:
    """The user block of a result; `sha256` is that of all bytes after the block."""
    return (RESULT_MAGIC + sha256.encode()).ljust(USER_BLOCK_BYTES, b"\0")


def read_result(path: Path) -> Result:
    """Read and verify a result file.

    Raises IrpipeError if the file is missing, cut short, not a result of irpipe, or does not
    match its SHA-256.
    """
    result: Result = read_or_explain(path, "irpipe result (HDF5)", _load_result)
    return result


def _load_result(path: Path) -> Result:
    import h5py

    with path.open("rb") as raw:
        user_block = raw.read(USER_BLOCK_BYTES)
        if not user_block.startswith(RESULT_MAGIC):
            raise IrpipeError(
                f"{path}: not a readable irpipe result (HDF5 with a SHA-256 in its user block)"
            )
        sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
        if user_block != _user_block(sha256):
            raise IrpipeError(
                f"{path}: cut short or damaged, its content does not match its SHA-256; "
                "make it again"
            )
        # HDF5 gets the open file, because the path may name another file by now.
        with h5py.File(raw, "r") as file:
            attrs = {key: json.loads(value) for key, value in file.attrs.items()}
            arrays = {name: np.asarray(data) for name, data in file.items()}
    return Result(attrs, arrays, sha256, path)
