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

SOURCE_FOLDER = Path(__file__).resolve().parent.parent
PACKAGE = "irpipe"
# These modules cannot change a number. The values of options reach the rules as parameters.
IGNORED_MODULES = {
    "irpipe.errors",
    "irpipe.option_types",
    "irpipe.runtime.gpu_lock",
    "irpipe.runtime.progress",
}


def _source_path(module: str) -> Path | None:
    base = SOURCE_FOLDER.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported_modules(tree: ast.AST) -> set[str]:
    """Names of all modules that an import statement anywhere in `tree` may load.

    Relative imports are left out, because the package has none.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _data_files(path: Path, source: str) -> Iterator[Path]:
    """The data files that belong to the module at `path`, in a fixed order."""
    candidates = [*path.parent.glob("*.csv"), *path.parent.glob("templates/*.jinja")]
    for file in sorted(candidates):
        if file.stem == path.stem or file.name in source:
            yield file


@functools.cache
def _hash_module(module: str) -> tuple[str, frozenset[str]]:
    """Hash of one module without its imports, and the modules of this package that it imports."""
    path = _source_path(module)
    if path is None:
        raise ModuleNotFoundError(f"no source file for {module} below {SOURCE_FOLDER}")
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, str(path))
    imported = {
        name
        for name in _imported_modules(tree)
        if name.split(".")[0] == PACKAGE and _source_path(name)
    }
    content = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode())
    for file in _data_files(path, source):
        content.update(file.read_bytes())
    return content.hexdigest(), frozenset(imported - {module})


def code_hash(*modules: str) -> str:
    """Hash (12 hex digits) of `modules` and of all that they import from this package."""
    hashes: dict[str, str] = {}
    pending = list(modules)
    while pending:
        module = pending.pop()
        if module not in hashes and module not in IGNORED_MODULES:
            hashes[module], imported = _hash_module(module)
            pending += imported
    return hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()[:12]


def of_data(data: str) -> str:
    """Hash of the code that reads a data set kind."""
    return code_hash("irpipe.datasets", f"irpipe.datasets.{data}")


def of_training(data: str, method: str) -> str:
    """Hash of the code that decides a network trained on a data set kind by a method kind."""
    return code_hash("irpipe.training.run", f"irpipe.datasets.{data}", f"irpipe.methods.{method}")


def of_evaluation(data: str, attack: str) -> str:
    """Hash of the code that decides the result of an attack kind on a data set kind."""
    return code_hash("irpipe.evaluation", f"irpipe.datasets.{data}", f"irpipe.attacks.{attack}")


def of_import(data: str) -> str:
    """Hash of the code that decides the checkpoint of a released network, by data set kind."""
    return code_hash("irpipe.networks.released", f"irpipe.datasets.{data}")


def of_report(kind: str) -> str:
    """Hash of the code that decides a table or figure of a kind."""
    return code_hash(f"irpipe.reports.{kind}")
