"""Python files that are no part of irpipe: found beside a config, checked, imported.

A config, and a network that was trained by one, names such a file as `./my/method.py`: relative to
the folder of the config and inside it. That folder is the environment's IRPIPE_CODE, else the
current one. So a config can only name code that lies with it.

A file may import modules of its own folder. Nothing here affects a number.
"""

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from irpipe.errors import MAX_NAME_SHOWN, IrpipeError, first_line

# What Python's parser, ast.dump and ast.unparse raise a RecursionError at.
TOO_LONG_EXPRESSION = "an expression has too many operands or is nested too deep; divide it"


# The files that `import_file` was asked for since `code_lies_beside` was entered.
used_files: set[Path] = set()


def code_folder() -> Path:
    """The folder below which configs and checkpoints may name files of code."""
    return Path(os.environ.get("IRPIPE_CODE") or ".")


def is_outside(name: object) -> bool:
    """Whether a name of a config is that of a file beside it, and not of a part of irpipe."""
    return isinstance(name, str) and name.startswith("./")


def plain_name(name: str) -> str:
    """A name as it stands in paths and tables: `wide` for the file `./nets/wide.py`."""
    return Path(name).stem if is_outside(name) else name


def outside_file(name: str) -> Path:
    """The path of the file that a config names `./...`.

    Raises IrpipeError if there is none, or if it does not lie in the folder of the config.
    """
    folder = code_folder()
    path = folder / name
    if not is_outside(name) or "\0" in name:
        start = name[:MAX_NAME_SHOWN]
        raise IrpipeError(f"'{start}': expected a file beside the config, such as ./mine.py")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise IrpipeError(f"{name}: leads out of {folder.resolve()}, the folder of the config")
    if not os.path.isfile(path):
        start = name[:MAX_NAME_SHOWN]
        raise IrpipeError(f"{start}: no such file in {folder.resolve()}, the folder of the config")
    return path


def external_file(source: str) -> Path:
    """The file of an external network that a config names.

    `source` is `./NET.safetensors`, `./NET.pt2` or `./FILE.py:function`. Raises IrpipeError if it
    is something else, or as `outside_file` does.
    """
    name, colon, function = source.partition(":")
    is_file = not colon and name.endswith((".safetensors", ".pt2"))
    if not (is_file or (name.endswith(".py") and function.isidentifier())):
        expected = "./NET.safetensors, ./NET.pt2 or ./FILE.py:function"
        start = source[:MAX_NAME_SHOWN]
        raise IrpipeError(f"'{start}': expected {expected}, beside the config")
    return outside_file(name)


def parse_file(path: Path) -> ast.Module:
    """The syntax tree of a Python file. Raises IrpipeError if it is none."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise IrpipeError(f"{path}: {TOO_LONG_EXPRESSION}") from error
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise IrpipeError(f"{path}: not a readable Python file ({first_line(error)})") from error


def imported_names(tree: ast.AST, package: str = "") -> set[str]:
    """Names of all modules that an import statement anywhere in `tree` may load.

    `package` is that of the module, to which relative imports refer.
    """
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            parts = [*parents, node.module] if node.level else [node.module]
            base = ".".join(part for part in parts if part)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names - {""}


def source_path(module: str, folder: Path) -> Path | None:
    """The file of a module below `folder`, if Python looks there for it; None if there is none."""
    base = folder.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def own_modules(path: Path) -> dict[str, Path]:
    """Modules of its own folder that a file imports, directly or not, each with its file.

    Raises IrpipeError if one of them is no readable Python file.
    """
    modules: dict[str, Path] = {}
    pending = [("", path)]
    while pending:
        module, file = pending.pop()
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        names = imported_names(parse_file(file), package)
        # Python also runs the __init__.py of each package on the way.
        parents = {name.rsplit(".", n)[0] for name in names for n in range(name.count(".") + 1)}
        for name in parents:
            source = source_path(name, path.parent)
            if source and name not in modules:
                modules[name] = source
                pending.append((name, source))
    return modules


def import_file(path: Path) -> ModuleType:
    """The module in a Python file, which may import modules of its own folder.

    Raises IrpipeError if that fails, or if Python would take another module of the same name.
    """
    real_path = Path(os.path.realpath(path))
    used_files.add(real_path)
    name = f"irpipe_outside_{hashlib.sha256(os.fsencode(real_path)).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    if str(real_path.parent) not in sys.path:
        # At the end: a file called random.py is no reason to break Python.
        sys.path.append(str(real_path.parent))
    try:
        for module_name, file in own_modules(real_path).items():
            spec = importlib.util.find_spec(module_name)
            origin = spec.origin if spec else None
            if origin != str(file):
                raise IrpipeError(
                    f"{path}: imports {module_name}, which is {origin} here and not {file.name} "
                    "beside it; rename that file"
                )
        return _execute(name, real_path)
    except IrpipeError:
        raise
    except (Exception, SystemExit) as error:  # Importing runs the file's own code.
        raise IrpipeError(f"{path}: cannot be imported ({first_line(error)})") from error


def _execute(name: str, path: Path) -> ModuleType:
    """The module called `name` that a file makes."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def import_kind(category: str, kind: str) -> ModuleType:
    """The module of a kind: a file beside the config, or one of the registry `category`.

    Raises IrpipeError if it is a file that cannot be imported.
    """
    if is_outside(kind):
        return import_file(outside_file(kind))
    return importlib.import_module(f"irpipe.{category}.{kind}")


@contextlib.contextmanager
def code_lies_beside(config: Path | None) -> Iterator[None]:
    """Within this context, files of code lie beside `config`; None leaves IRPIPE_CODE as it is.

    `used_files` begins anew, and stays when the context ends.
    """
    used_files.clear()
    before = os.environ.get("IRPIPE_CODE")
    if config is not None:
        os.environ["IRPIPE_CODE"] = str(config.parent)
    try:
        yield
    finally:
        os.environ.pop("IRPIPE_CODE", None)
        if before is not None:
            os.environ["IRPIPE_CODE"] = before
