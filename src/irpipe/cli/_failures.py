"""Errors that are not irpipe's own: those of the machine, of networks and of pyautoattack."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from irpipe.errors import IrpipeError

# Kinds of attacks that call a package of the optional dependencies `irpipe[stress]`.
PACKAGES = {"autoattack": "pyautoattack"}


def machine_failure(error: BaseException) -> str:
    """One line if the machine ran out of memory or lost its GPU, else an empty string."""
    message = (str(error).splitlines() or [""])[0]
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


def is_ours(error: Exception) -> bool:
    """Whether an attack on a network of irpipe failed by itself, not within pyautoattack."""
    frames = traceback.extract_tb(error.__traceback__)
    is_foreign = any("pyautoattack" in frame.filename for frame in frames)
    return not is_foreign or isinstance(error, IrpipeError) or bool(machine_failure(error))


def attack_failure(error: Exception, attack: str, network: str) -> str:
    """One line on why an attack failed on a network."""
    reason = str(error) if isinstance(error, IrpipeError) else machine_failure(error)
    if not reason:
        lines = str(error).strip().splitlines()
        reason = ": ".join([type(error).__name__, *lines[:1]])
    return f"{attack} on {network}: {reason}"


@contextmanager
def explained(what: str, network: str, *, is_external: bool) -> Iterator[None]:
    """Make one line of what an external network's code, or pyautoattack, raises.

    `what` is an attack, or the images that the network gets.
    """
    try:
        yield
    except Exception as error:
        # Whatever an external network's code raises is the network's error.
        if is_ours(error) and (not is_external or isinstance(error, IrpipeError)):
            raise
        raise IrpipeError(attack_failure(error, what, network)) from error


def require_packages(kind: str) -> None:
    """Raise IrpipeError if a package that attacks of this kind call is missing."""
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise IrpipeError(f"attack kind {kind}: {package} is missing; pip install 'irpipe[stress]'")


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error, as --debug asks for."""
    traceback.print_exception(error, file=sys.stderr)
