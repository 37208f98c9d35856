"""Content hash of modules and of all they import from this package: what makes a result stale.

Comments, docstrings and formatting do not count (design.md, decision 1; cluster.md, section 3); tables of data beside
a module do. Imports by computed name are invisible here, so callers name the modules they reach that way (a method's
file, an attack's file).
"""

import ast
import functools
import hashlib
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
PACKAGE = "irpipe"
NEUTRAL = {  # modules that cannot move a number: what people read, and types whose values reach the rules as params
    *("irpipe.errors", "irpipe.lease", "irpipe.progress", "irpipe.quantities"),
}


def _path(module: str) -> Path | None:
    base = SOURCE.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imported(tree: ast.AST) -> set[str]:
    """Names of all modules that an import statement anywhere in `tree` may load (the package uses no relative ones)."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


@functools.cache
def _one(module: str) -> tuple[str, frozenset[str]]:
    """Hash of one module's own code, and the modules of this package that it imports."""
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(f"no source file for {module} below {SOURCE}")
    tree = ast.parse(path.read_text(), str(path))
    needs = {name for name in _imported(tree) if name.split(".")[0] == PACKAGE and _path(name)}
    content = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode())
    for table in sorted(path.parent.glob("*.csv")):
        if path.name == "__init__.py" or table.stem == path.stem:
            content.update(table.read_bytes())
    return content.hexdigest(), frozenset(needs - {module})


def code_hash(*modules: str) -> str:
    """Hash (12 hex digits) of `modules` and of everything they import from this package, transitively."""
    seen: dict[str, str] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module not in seen and module not in NEUTRAL:
            seen[module], needs = _one(module)
            todo += needs
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:12]


def of_data(data: str) -> str:
    """Code that reads a data set kind."""
    return code_hash("irpipe.data", f"irpipe.datasets.{data}")


def of_training(data: str, method: str) -> str:
    """Code that decides a network trained on a data set kind by a method kind."""
    return code_hash("irpipe.train", f"irpipe.datasets.{data}", f"irpipe.methods.{method}")


def of_evaluation(data: str, attack: str) -> str:
    """Code that decides the result of an attack kind on a data set kind."""
    return code_hash("irpipe.evaluate", f"irpipe.datasets.{data}", f"irpipe.attacks.{attack}")


def of_import(data: str) -> str:
    """Code that decides the checkpoint made of a released network for a data set kind."""
    return code_hash("irpipe.released", f"irpipe.datasets.{data}")


def of_report(kind: str) -> str:
    """Code that decides a table or figure of a kind."""
    return code_hash(f"irpipe.reports.{kind}")
