"""Write complete files or none, and read files with errors of one line.

Nothing here affects a number. A file is written next to its path, flushed, and renamed only when
it is complete. So a reader never sees half a file, and a failed write leaves the old one.
"""

import contextlib
import csv
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from irpipe.errors import IrpipeError, reason_of

# The key of checkpoints and the column of training logs that hold the SHA-256 of their content.
CONTENT_SHA256_KEY = "content_sha256"


def ensure_writable(path: Path) -> None:
    """Raise IrpipeError if no file can be written at `path`. Leaves nothing there.

    A command calls this before a long computation. It tries every step of `atomic_write` on a
    temporary file, because file systems differ in what they refuse.
    """
    with _as_write_error(path):
        _check_place(path)
        folder = _nearest_folder(path)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".irpipe.") as trial:
            for content in (b"old", b"new"):
                with _temporary_file(Path(trial) / path.name) as temporary:
                    temporary.write_bytes(content)


def _check_place(path: Path) -> None:
    """Raise IrpipeError if `path` is no place for a file. Creates nothing."""
    if path.is_dir():
        raise IrpipeError(f"{path}: is a folder; name a file in it")
    if path.exists() and not path.is_file():
        raise IrpipeError(f"{path}: is a device or a pipe; name a regular file")
    folder = _nearest_folder(path)
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise IrpipeError(
            f"{path}: cannot be written, {folder} is no folder that may be written to"
        )


def _nearest_folder(path: Path) -> Path:
    """The nearest parent of `path` that exists. It is a file if the path is impossible."""
    parents = Path(os.path.realpath(path)).parents
    return next(parent for parent in parents if parent.exists())


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` if the block succeeds.

    So `path` holds either its old content or all of the new content. Raises IrpipeError if
    it cannot be written, for example because the disk is full.
    """
    with _as_write_error(path):
        _check_place(path)
        with _temporary_file(path) as temporary:
            yield temporary


@contextlib.contextmanager
def _as_write_error(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one line that names `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise IrpipeError(f"{path}: cannot be written ({reason}); nothing was changed") from error


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Yield a new file in the folder of `path`; flush it to disk and rename it to `path`.

    A link stays: what it points to is replaced.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        # mkstemp lets only the owner read the file; other files follow the umask. A file system
        # without modes, such as CIFS, refuses to set one, and its files need none.
        with contextlib.suppress(OSError):
            temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Write a file through to the disk. Some file systems cannot, and say so."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def files_below(folder: Path, *, skip_unreadable: bool = False) -> Iterator[Path]:
    """Yield all files below `folder`, in a fixed order, also those below links to folders.

    Each folder is visited once, so a link to a parent is no endless loop. Raises IrpipeError at a
    folder that cannot be listed, unless it is to be skipped.
    """

    def refuse(error: OSError) -> None:
        raise IrpipeError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    visited: set[str] = set()
    onerror = None if skip_unreadable else refuse
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=onerror):
        real_path = os.path.realpath(parent)
        if real_path in visited:
            folders.clear()
            continue
        visited.add(real_path)
        folders.sort()
        for name in sorted(names):
            yield Path(parent, name)


def content_sha256(attrs: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hex, of attributes (canonical JSON) and arrays (name, type, shape, bytes)."""
    total = hashlib.sha256(json.dumps(attrs, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def read_or_explain(path: Path, expected: str, reader: Callable[[Path], Any]) -> Any:
    """`reader(path)`. Raises IrpipeError if the file is missing, damaged or of another kind.

    `expected` says in the message what the file should be.
    """
    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected an {expected}")
    # The libraries raise all of these at damaged files.
    damage = (OSError, LookupError, ValueError, RuntimeError, TypeError, csv.Error)
    try:
        return reader(path)
    except damage as error:
        reason = reason_of(error)
        raise IrpipeError(f"{path}: not a readable {expected} ({reason}); make it again") from error
