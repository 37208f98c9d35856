"""Small files and small functions, in the package and in its tests."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 299
MAX_FUNCTION_LINES = 49
SOURCES = [path for folder in ("src", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_has_300_lines() -> None:
    n_lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert len(n_lines) > 100
    too_long = {str(path): count for path, count in n_lines.items() if count > MAX_FILE_LINES}
    assert too_long == {}


def test_no_function_has_50_lines() -> None:
    """Counted from the docstring on. A signature may be long: it has one line per option."""
    too_long = [
        f"{path}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert too_long == []
