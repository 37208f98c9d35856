"""What an error says in one line."""

import pytest

from irpipe.errors import first_line, reason_of


@pytest.mark.parametrize(
    ("message", "reason", "line"),
    [
        ("too short\nmore", "too short", "ValueError: too short"),
        ("\n  at 3 \nmore", "at 3 ", "ValueError: at 3 "),
        ("", "ValueError", "ValueError"),
        ("\n", "ValueError", "ValueError"),
    ],
)
def test_an_error_without_a_message_is_its_type(message: str, reason: str, line: str) -> None:
    assert reason_of(ValueError(message)) == reason
    assert first_line(ValueError(message)) == line
