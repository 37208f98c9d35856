"""Progress of long work: a bar with the time left on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PAUSE = 10.0  # seconds between lines in a log


class Advance(Protocol):
    """Reports that `steps` more are done, with a note on how it goes."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more."""


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show `label` on standard error with `total` steps, `done` of them before; yields the function that advances it.

    No label: silent.
    """
    if not label:
        yield lambda steps=1, note="": None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, completed=done, note="")
            yield lambda steps=1, note="": bar.update(task, advance=steps, **({"note": note} if note else {}))
    else:
        yield _lines(label, total, done)


def _lines(label: str, total: int, before: int) -> Advance:
    done, last_note, start = before, "", time.monotonic()
    spoken = start - PAUSE

    def advance(steps: int = 1, note: str = "") -> None:
        """Say how far it is, if the last line is long enough ago."""
        nonlocal done, last_note, spoken
        done, last_note, now = done + steps, note or last_note, time.monotonic()
        if done < total and now - spoken < PAUSE:
            return
        spoken, left = now, (now - start) * (total - done) / max(done - before, 1)
        print(f"{label}: {done}/{total}, {left:.0f} s left {last_note}".rstrip(), file=sys.stderr, flush=True)

    return advance
