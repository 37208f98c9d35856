"""Open what holds someone else's network: a torch.export file, or a Python function.

Both can run their maker's code: Python is Python, and torch.export.load unpickles and evaluates
parts of a .pt2 file.
"""

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from irpipe.errors import IrpipeError, first_line
from irpipe.outside_code import import_file
from irpipe.runtime.torchvision_operators import declare_torchvision_operators


def load_exported(path: Path, device: torch.device) -> tuple[nn.Module, str]:
    """Return the module in a torch.export file, and the SHA-256 of the file.

    Raises IrpipeError if there is no such file, or if torch.export cannot read it.
    """
    from torch.export.passes import move_to_device_pass

    if not path.is_file():
        raise IrpipeError(f"{path}: no such file; expected what torch.export.save wrote")
    try:
        program = torch.export.load(path)
    except Exception as error:  # Zip, JSON, pickle, operators that this torch lacks, ...
        reason = first_line(error)
        raise IrpipeError(f"{path}: not a readable torch.export file ({reason})") from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return move_to_device_pass(program, device).module(), sha256


def call_function(source: str) -> nn.Module:
    """Return the module that a function returns: `FILE.py:function` or `module:function`.

    Raises IrpipeError if there is no such function, or if it fails.
    """
    name, _, function_name = source.rpartition(":")
    # Without this, neither torchvision nor timm can be imported next to a CPU-only torch.
    declare_torchvision_operators()
    python_module = _import_path(name) if name.endswith(".py") else _import_name(source, name)
    function: Callable[[], object] | None = getattr(python_module, function_name, None)
    if not callable(function):
        raise IrpipeError(f"{source}: module '{name}' has no function '{function_name}'")
    try:
        network = function()
    except (Exception, SystemExit) as error:
        raise IrpipeError(f"{source}: the function fails ({first_line(error)})") from error
    if not isinstance(network, nn.Module):
        raise IrpipeError(f"{source}: gave a {type(network).__name__}, not a torch.nn.Module")
    return network


def _import_path(name: str) -> ModuleType:
    if not Path(name).is_file():
        raise IrpipeError(f"{name}: no such file")
    return import_file(Path(name))


def _import_name(source: str, name: str) -> ModuleType:
    """Return the Python module called `name`, which may lie in the current folder."""
    sys.path.insert(0, "")  # The current folder, where `python -m` looks first, too.
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # Importing runs the module's own code.
        reason = first_line(error)
        raise IrpipeError(f"{source}: module '{name}' cannot be imported ({reason})") from error
    finally:
        sys.path.remove("")
