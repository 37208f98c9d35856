"""Errors for people: one line with the file or key, what was found, and what would be correct."""

import difflib
from collections.abc import Sequence

MAX_NAME_SHOWN = 80  # letters of a wrong name that a message shows


class IrpipeError(Exception):
    """Bad input. The command line prints the message and exits with code 2.

    Any other exception is a defect of irpipe and keeps its traceback.
    """

    def __str__(self) -> str:
        """The message in one line: letters that cannot be printed become escapes."""
        letters = super().__str__()
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in letters)


class NotApplicableError(IrpipeError):
    """An attack needs what this network has not; `irpipe stress` leaves the attack out."""


class StoppedError(SystemExit):
    """A signal asked a training to end, and its state is saved; the code is 128 + signal."""


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    type_name, reason = type(error).__name__, reason_of(error)
    return reason if reason == type_name else f"{type_name}: {reason}"


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def no_such(noun: str, name: object, known: Sequence[str]) -> str:
    """One line for a name that does not exist, with the names that do and the nearest of them.

    `noun` says what the name is of, such as "attack".
    """
    start = str(name)[:MAX_NAME_SHOWN]
    nearest = difflib.get_close_matches(start, known, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"no {noun} '{start}'; have: {', '.join(known) or 'none'}{hint}"
