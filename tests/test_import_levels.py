"""Imports go one way: from higher to lower levels of docs/design.md, and never in a circle."""

import ast
import functools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "irpipe"
ENTRY_POINTS = {"__init__", "__main__"}


def levels(document: str) -> dict[str, int]:
    """Level of each module or folder of the package, from the table of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ((?:`\w+` ?)+)\|$", text, re.MULTILINE)
    pairs = [(name, int(level)) for level, names in rows for name in re.findall(r"\w+", names)]
    assert len(dict(pairs)) == len(pairs), "a module has two levels"
    return dict(pairs)


def module_name(path: Path) -> str:
    """The dotted name of a source file, such as `irpipe.attacks.pgd`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    """The part of a name that has a level: `attacks` of `irpipe.attacks.pgd`."""
    return module.split(".")[1]


@functools.cache
def static_imports(path: Path) -> list[str]:
    """Modules of the package that a file imports, also in functions and for type checkers."""
    modules = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            # `from irpipe.files import atomic_write` names a function of a module.
            module = name if name in SOURCES else name.rpartition(".")[0]
            if module in SOURCES and module != "irpipe":
                modules.append(module)
    return modules


def imports_by_name(path: Path) -> Iterator[str]:
    """Folders of which a file imports a module by name.

    As in `import_module(f"a.b.{name}")`, or as in `import_kind("attacks", kind)`.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        if function.endswith("import_module") and isinstance(node.args[0], ast.JoinedStr):
            yield ast.literal_eval(node.args[0].values[0]).removesuffix(".")
        if function == "import_kind":
            yield f"irpipe.{ast.literal_eval(node.args[0])}"


def test_every_module_has_a_level() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names - ENTRY_POINTS - {"__pycache__"} == levels("docs/design.md").keys()


def test_the_two_documents_agree() -> None:
    assert levels("CONTRIBUTING.md") == levels("docs/design.md")


def test_a_module_imports_only_from_its_own_room_and_from_lower_levels() -> None:
    level = levels("docs/design.md") | {"__main__": 99}
    upward = [
        (module, imported)
        for module, path in SOURCES.items()
        if module != "irpipe"
        for imported in [*static_imports(path), *imports_by_name(path)]
        if imported not in ("irpipe", "irpipe.models")
        if room(imported) != room(module) and level[room(imported)] >= level[room(module)]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Only a registry loads its own kinds by name, which is not counted here."""
    graph = {module: set(static_imports(path)) for module, path in SOURCES.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(SOURCES)


def test_only_registries_and_commands_are_imported_by_name() -> None:
    pairs = {
        (room(module), imported)
        for module, path in SOURCES.items()
        if module != "irpipe"
        for imported in imports_by_name(path)
    }
    assert pairs == {
        ("cli", "irpipe.cli"),
        ("cli", "irpipe.reports"),
        ("datasets", "irpipe.datasets"),
        ("evaluation", "irpipe.attacks"),
        ("networks", "irpipe.models"),  # files beside a config only
        ("outside_code", "irpipe"),  # for all of these
        ("training", "irpipe.methods"),
    }


@pytest.mark.parametrize("module", [name for name in SOURCES if "._" in name])
def test_private_modules_are_imported_from_their_own_folder_only(module: str) -> None:
    folder = module.rpartition(".")[0]
    importers = [name for name, path in SOURCES.items() if module in static_imports(path)]
    if module != "irpipe.__main__":
        assert importers
    assert [name for name in importers if not f"{name}.".startswith(f"{folder}.")] == []
