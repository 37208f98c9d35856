"""Errors that are not irpipe's own: those of the machine, of networks and of pyautoattack."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from irpipe.errors import IrpipeError, NotApplicableError, StoppedError, first_line, reason_of
from irpipe.outside_code import is_outside, own_modules, used_files

# Kinds of attacks that call a package of the optional dependencies `irpipe[stress]`.
PACKAGES = {"autoattack": "pyautoattack"}
HINT = "--debug prints the traceback"


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


def own_code_failure(error: BaseException, *, is_theirs: bool) -> str:
    """One line if the command used files next to the config, which may be at fault, else empty.

    `is_theirs` is `is_of_used_files(error)`.
    """
    if not used_files or isinstance(error, StoppedError):
        return ""
    reason = _with_used_files(error)
    return f"{reason}; {HINT}" if is_theirs else reason


def is_of_used_files(error: BaseException) -> bool:
    """Whether a file next to the config raised an error, or a module that it imports from there."""
    files = set(used_files)
    for path in used_files:
        with suppress(IrpipeError):  # It has changed since it was imported.
            files |= set(own_modules(path).values())
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename) in files for frame in frames)


def _with_used_files(error: BaseException) -> str:
    """The first line of an error, and the files next to the config that the command used."""
    names = ", ".join(sorted(path.name for path in used_files))
    return f"{first_line(error)}, with the code of {names}" if names else first_line(error)


def has_code_of_others(metadata: dict[str, Any], attack: str = "") -> bool:
    """Whether code that is not irpipe's takes part in an attack of this kind on a network.

    `metadata` are those of the network. Its architecture and its data set may be files, too.
    """
    parts = (metadata["model"], metadata["data"]["kind"], attack)
    return metadata["run"] == "external" or any(map(is_outside, parts))


def attack_failure(error: BaseException, attack: str, network: str, *, is_external: bool) -> str:
    """One line on why an attack failed on a network; raises the error if irpipe is at fault.

    Whatever the code of others raises is not irpipe's fault: `is_external` says that such code
    takes part (`has_code_of_others`), and pyautoattack is known by its name.
    """
    reason = str(error) if isinstance(error, IrpipeError) else machine_failure(error)
    if not reason:
        frames = traceback.extract_tb(error.__traceback__)
        is_foreign = any("pyautoattack" in Path(frame.filename).parts for frame in frames)
        if not (is_external or is_foreign):
            raise error
        reason = _with_used_files(error)
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
        hint = "" if machine_failure(error) else f"; {HINT}"
        raise IrpipeError(f"{failure}{hint}") from error


def require_packages(kind: str) -> None:
    """Raise IrpipeError if a package that attacks of this kind call is missing."""
    package = PACKAGES.get(kind)
    if package and importlib.util.find_spec(package) is None:
        raise IrpipeError(f"attack kind {kind}: {package} is missing; pip install 'irpipe[stress]'")


def require_maps(network: object, options: dict[str, Any]) -> None:
    """Raise NotApplicableError if an attack of these options needs maps and a network has none."""
    needs_maps = "interpreter" in options or "interpreters" in options
    if needs_maps and not getattr(network, "has_maps", True):
        reason = getattr(network, "why_no_maps", "")
        raise NotApplicableError(f"it attacks maps and this network has none: {reason}")


def print_traceback(error: BaseException) -> None:
    """Print the traceback of an error, as --debug asks for."""
    traceback.print_exception(error, file=sys.stderr)
