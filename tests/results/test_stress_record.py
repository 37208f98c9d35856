"""The record of `irpipe stress`: what is damaged is one line, not an error of the page."""

import re
from pathlib import Path

import pytest

from irpipe.errors import IrpipeError
from irpipe.results.stress_record import RECORD_NAME, Attempt, read_attempts, write_attempts


def test_what_is_written_is_read(tmp_path: Path) -> None:
    attempts = [Attempt("a", "pgd", "finished", 1.5), Attempt("b", "aai", "failed", reason="é")]
    write_attempts(tmp_path, attempts)
    assert read_attempts(tmp_path) == attempts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 5000,
        '{"a": 1}',
        '[{"attack": 3}]',
        '[{"attack": "a", "kind": "pgd", "state": "done"}]',
        '[{"attack": "a", "kind": "pgd", "state": "finished", "seconds": "x"}]',
    ],
)
def test_a_damaged_record_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_text(text, encoding="utf-8")
    path = re.escape(str(tmp_path / RECORD_NAME))
    message = rf"^{path}: not a readable record of irpipe stress \([^\n]*\); make"
    with pytest.raises(IrpipeError, match=message):
        read_attempts(tmp_path)
