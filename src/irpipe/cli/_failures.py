"""Errors that are not irpipe's own: those of the machine, of networks and of pyautoattack."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irpipe.errors import IrpipeError, first_line, reason_of
from irpipe.outside_code import used_files

# Kinds of attacks that call a package of the optional dependencies `irpipe[stress]`.
PACKAGES = {"autoattack": "pyautoattack"}


def machine_failure(error: BaseException) -> str:
    """One line if the machine ran out of memory or lost its GPU, else an empty string."""
    message = reason_of(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and re.search("(out of|not enough|allocate) memory", message)
    ):
        return "out of memory; use a machine with more or, for attacks, a smaller batch_size"
    if isinstance(error, RuntimeError) and "CUDA error" in message and "assert" not in message:
        return (
            f"the GPU failed ({message}); run it again, training goes on from its last state, "
            "or use --device cpu"
        )
    return ""


def own_code_failure(error: BaseException) -> str:
    """One line if the command used files beside the config, which may be at fault, else empty.

    SystemExit counts if one of those files raised it: irpipe raises it too, after SIGTERM.
    """
    frames = traceback.extract_tb(error.__traceback__)
    is_raised_there = any(Path(frame.filename) in used_files for frame in frames)
    if not used_files or (isinstance(error, SystemExit) and not is_raised_there):
        return ""
    names = ", ".join(sorted(path.name for path in used_files))
    return f"{first_line(error)}, with the code of {names}; --debug prints the traceback"


def attack_failure(error: BaseException, attack: str, network: str, *, is_external: bool) -> str:
    """One line on why an attack failed on a network; raises the error if irpipe is at fault.

    Whatever the code of others raises is not irpipe's fault: an external network, an attack that
    is a file (both `is_external`), or pyautoattack.
    """
    reason = str(error) if isinstance(error, IrpipeError) else machine_failure(error)
    if not reason:
        frames = traceback.extract_tb(error.__traceback__)
        is_foreign = any("pyautoattack" in Path(frame.filename).parts for frame in frames)
        if not (is_external or is_foreign):
            raise error
        reason = first_line(error)
    return f"{attack} on {network}: {reason}"


@contextmanager
def explained(what: str, network: str, *, is_external: bool) -> Iterator[None]:
    """Make one line of what the machine or the code of others raises (`attack_failure`).

    `what` is an attack, or the images that the network gets.
    """
    try:
        yield
    except IrpipeError:
        raise
    except (Exception, SystemExit) as error:
        failure = attack_failure(error, what, network, is_external=is_external)
        raise IrpipeError(failure) from error


def require_packages(kind: str) -> None:
    """Raise IrpipeError if a package that attacks of this kind call is missing."""
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise IrpipeError(f"attack kind {kind}: {package} is missing; pip install 'irpipe[stress]'")


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error, as --debug asks for."""
    traceback.print_exception(error, file=sys.stderr)
