"""The code hash: what changes it, and what each output depends on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from irpipe import code_hash
from irpipe.config.kinds import kinds

SOURCE_OF_A = '''\
"""Uses b."""

from pk.b import two


def one():
    """Return 2."""
    return two()
'''
MODULES = {
    "__init__.py": '"""A package."""\n',
    "a.py": SOURCE_OF_A,
    "b.py": "def two():\n    import pk.c as c\n\n    return c.N\n",
    "c.py": "N = 2\n",
    "c.csv": "x\n",
    "d.py": "import json\n",
    "e/__init__.py": 'TABLE = "table.csv"\n',
    "e/table.csv": "1,2\n",
    "e/other.csv": "1,2\n",
    "e/templates/page.jinja": "{{ x }}\n",
    "e/page.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package pk in which a imports b and, within a function, b imports c."""
    for name, text in MODULES.items():
        path = tmp_path / "pk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(code_hash, "SOURCE_FOLDER", tmp_path)
    monkeypatch.setattr(code_hash, "PACKAGE", "pk")
    code_hash._hash_file.cache_clear()
    yield tmp_path / "pk"
    code_hash._hash_file.cache_clear()


def hash_after_change(path: Path, old: str, new: str, module: str = "pk.a") -> str:
    """The hash of a module while `new` stands in the file instead of `old`."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    code_hash._hash_file.cache_clear()
    changed_hash = code_hash.code_hash(module)
    path.write_text(text, encoding="utf-8")
    code_hash._hash_file.cache_clear()
    return changed_hash


@pytest.mark.parametrize(
    ("name", "old", "new", "is_same"),
    [
        ("a.py", "Uses b", "Uses another module", True),
        ("a.py", '    """Return 2."""\n', "", True),
        ("a.py", "    return", "    # a comment\n\n    return", True),
        ("c.py", "N = 2", "N  =  2  # so many", True),
        ("e/table.csv", "1,2", "1,3", True),  # no module on the way imports e
        ("a.py", "return two()", "return two() + 1", False),
        ("b.py", "return c.N", "return -c.N", False),
        ("c.py", "N = 2", "N = 3", False),  # two imports away
        ("c.csv", "x", "y", False),  # a table next to a module, of the same name
        ("b.py", "import pk.c as c", "import pk.c as c\n    import pk.d", False),
    ],
)
def test_the_hash_changes_with_code_only(
    package: Path, name: str, old: str, new: str, is_same: bool
) -> None:
    before = code_hash.code_hash("pk.a")
    assert len(before) == 12
    assert (hash_after_change(package / name, old, new) == before) == is_same
    assert code_hash.code_hash("pk.a") == before


def test_the_hash_is_of_a_text_that_every_version_of_python_gives() -> None:
    """Python 3.12 adds an empty `type_params`."""
    text = "FunctionDef(name='f', args=arguments(), body=[Return(value=Constant(value=1))])"
    assert code_hash._text(ast.parse("def f(): return 1")) == f"Module(body=[{text}])"


@pytest.mark.parametrize(
    ("module", "file", "old", "is_same"),
    [
        ("pk.e", "table.csv", "1,2", False),  # the module's source has its name
        ("pk.e", "other.csv", "1,2", True),
        ("pk.e.page", "templates/page.jinja", "x", False),  # it has the module's name
        ("pk.e", "templates/page.jinja", "x", True),
    ],
)
def test_data_files_count_for_the_module_that_names_them(
    package: Path, module: str, file: str, old: str, is_same: bool
) -> None:
    before = code_hash.code_hash(module)
    after = hash_after_change(package / "e" / file, old, "other", module)
    assert (after == before) == is_same


def test_a_module_without_source_is_named(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no source file for pk\.nothing"):
        code_hash.code_hash("pk.nothing")


def test_each_output_depends_on_its_own_kinds_only() -> None:
    training = {method: code_hash.of_training("digits", method) for method in kinds("methods")}
    assert len(set(training.values())) == len(training)
    assert code_hash.of_training("mnist", "cross_entropy") != training["cross_entropy"]
    hashes = {
        code_hash.of_evaluation("mnist", "pgd"),
        code_hash.of_import("mnist"),
        code_hash.of_data("mnist"),
    }
    assert len(hashes) == 3
