"""The hash of the code that decides an output. If it changes, the output is stale (D.1).

It covers modules and all that they import from this package, but no comments, docstrings or
formatting, since these change no number and must rerun no job (S.1). It also covers the data files
of a module: a .csv next to it or a template in the folder `templates` next to it, if the file has
the module's name or the module's source has the file's name.

Imports by a computed name are invisible here. So callers name the modules that are imported that
way, such as an attack's file.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from irpipe.errors import IrpipeError
from irpipe.outside_code import (
    TOO_LONG_EXPRESSION,
    imported_names,
    is_outside,
    outside_file,
    own_modules,
    parse_file,
    source_path,
)

SOURCE_FOLDER = Path(__file__).resolve().parent.parent
PACKAGE = "irpipe"
# These modules cannot change a number. The values of options reach the rules as parameters.
IGNORED_MODULES = {
    "irpipe.code_hash",
    "irpipe.errors",
    "irpipe.option_types",
    "irpipe.outside_code",
    "irpipe.runtime.gpu_lock",
    "irpipe.runtime.progress",
}


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _without_empty_fields(tree: ast.Module) -> ast.Module:
    """Later versions of Python add fields, which are empty for older code."""
    for node in ast.walk(tree):
        for name, field in list(ast.iter_fields(node)):
            if field == []:
                delattr(node, name)
    return tree


def _text(tree: ast.Module) -> str:
    """The code as a text that every version of Python gives."""
    return ast.dump(_without_empty_fields(_without_docstrings(tree)))


def _data_files(path: Path, source: str) -> Iterator[Path]:
    """The data files that belong to the module at `path`, in a fixed order."""
    candidates = [*path.parent.glob("*.csv"), *path.parent.glob("templates/*.jinja")]
    for file in sorted(candidates):
        if file.stem == path.stem or file.name in source:
            yield file


@functools.cache
def _hash_file(path: Path) -> tuple[str, frozenset[str]]:
    """Hash of one file without its imports, and the modules of this package that it imports.

    Raises IrpipeError if it is no Python file, or has an expression that is too long.
    """
    tree = parse_file(path)
    imported = {
        name
        for name in imported_names(tree)
        if name.split(".")[0] == PACKAGE and name != PACKAGE and source_path(name, SOURCE_FOLDER)
    }
    try:
        content = hashlib.sha256(_text(tree).encode())
    except RecursionError as error:
        raise IrpipeError(f"{path}: {TOO_LONG_EXPRESSION}") from error
    for file in _data_files(path, path.read_text(encoding="utf-8")):
        content.update(file.read_bytes())
    return content.hexdigest(), frozenset(imported)


def code_hash(*modules: str) -> str:
    """Hash (12 hex digits) of `modules` and of all that they import from this package.

    A module may be a file `./...` beside the config. It counts with all that it imports from its
    own folder. Raises IrpipeError if there is no such file, or if one of its expressions is too
    long.
    """
    hashes: dict[str, str] = {}
    pending: list[str] = []
    for module in modules:
        if is_outside(module):
            path = outside_file(module)
            for name, file in {"": path, **own_modules(path)}.items():
                hashes[f"{module} {name}"], imported = _hash_file(file)
                pending += imported
        else:
            pending.append(module)
    while pending:
        module = pending.pop()
        if module not in hashes and module not in IGNORED_MODULES:
            source = source_path(module, SOURCE_FOLDER)
            if source is None:
                raise ModuleNotFoundError(f"no source file for {module} below {SOURCE_FOLDER}")
            hashes[module], imported = _hash_file(source)
            pending += imported
    return hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()[:12]


def _module(category: str, kind: str) -> str:
    """The module of a kind, as `code_hash` takes it."""
    return kind if is_outside(kind) else f"irpipe.{category}.{kind}"


def _own_file(model: str) -> list[str]:
    """The file of a model next to the config; none for a model of irpipe."""
    return [model] if is_outside(model) else []


def of_data(data: str) -> str:
    """Hash of the code that reads a data set kind."""
    return code_hash("irpipe.datasets", _module("datasets", data))


def of_training(data: str, method: str, model: str = "") -> str:
    """Hash of the code that decides a network trained on a data set kind by a method kind.

    `model` counts if it is a file beside the config.
    """
    modules = (_module("datasets", data), _module("methods", method))
    return code_hash("irpipe.training.run", *modules, *_own_file(model))


def of_evaluation(data: str, attack: str) -> str:
    """Hash of the code that decides the result of an attack kind on a data set kind.

    The results of all networks have it in common (`of_model`).
    """
    return code_hash("irpipe.evaluation", _module("datasets", data), _module("attacks", attack))


def of_model(model: str) -> str:
    """Hash of a model that is a file next to the config; empty for a model of irpipe."""
    return code_hash(model) if is_outside(model) else ""


def of_proofs(model: str) -> str:
    """Hash of the code that decides which images of a network of this model bounds certify."""
    return code_hash("irpipe.attacks._certified", "irpipe.networks.load", *_own_file(model))


def of_import(data: str) -> str:
    """Hash of the code that decides the checkpoint of a released network, by data set kind."""
    return code_hash("irpipe.networks.released", _module("datasets", data))


def of_report(kind: str) -> str:
    """Hash of the code that decides a table or figure of a kind."""
    return code_hash(_module("reports", kind))
