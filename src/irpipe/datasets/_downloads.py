"""Read and download files whose SHA-256 is known.

Nothing here affects a number.
"""

import hashlib
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from irpipe.errors import IrpipeError

SOCKET_TIMEOUT = 30.0  # seconds that a server may send nothing before the download fails


def read_verified(path: Path, size: int, sha256s: Collection[str], remedy: str) -> bytes:
    """Return the content of a file of `size` bytes whose SHA-256, in hex, is one of `sha256s`.

    Raises IrpipeError, ending in `remedy`, if there is no such file or if it is another one.
    """
    if not path.is_file():
        raise IrpipeError(f"{path}: missing; {remedy}")
    size_found = path.stat().st_size
    if size_found != size:
        raise IrpipeError(
            f"{path}: found {size_found} bytes, expected {size}; remove it, then {remedy}"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() not in sha256s:
        raise IrpipeError(
            f"{path}: not the published file, its SHA-256 differs; remove it, then {remedy}"
        )
    return content


@contextmanager
def explain_errors(dataset: str, remedy: str) -> Iterator[None]:
    """Turn the errors that torchvision raises for files and servers into one IrpipeError.

    Its line begins with `dataset` and ends in `remedy`.
    """
    try:
        yield
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        message = " ".join(str(error).split())
        raise IrpipeError(f"{dataset}: {message}; {remedy}") from error


@contextmanager
def download_folder(dataset: str, root: Path, remedy: str) -> Iterator[Path]:
    """Yield a folder below `root` to download into.

    At the end the folder is removed, with all files that the caller has not moved out of it.
    Raises IrpipeError, ending in `remedy`, if the download fails or the server falls silent.
    """
    previous_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    try:
        with explain_errors(dataset, remedy):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=".download.") as folder:
                yield Path(folder)
    finally:
        socket.setdefaulttimeout(previous_timeout)
