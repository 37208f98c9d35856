"""Progress of long work: a bar with the time left on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

LOG_SECONDS = 10.0  # between two lines in a log


class Advance(Protocol):
    """A function that reports progress."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Report that `steps` more are done; `note` says how it goes."""


@contextmanager
def progress(label: str, total: int, done: int = 0, unit: str = "steps") -> Iterator[Advance]:
    """Show under `label`, on standard error, how many of `total` steps are done, and what is left.

    Yields the function that counts further steps, which any thread may call. `done` steps were done
    before. `unit` says what is counted. An empty label shows nothing.
    """
    if not label:
        yield lambda steps=1, note="": None
    elif sys.stderr.isatty():
        with _progress_bar(label, total, done, unit) as advance:
            yield advance
    else:
        yield _log_lines(label, total, done, unit)


@contextmanager
def _progress_bar(label: str, total: int, done: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            """Move the bar; an empty note leaves the last one."""
            fields: dict[str, Any] = {"note": note} if note else {}
            bar.update(task, advance=steps, **fields)

        yield advance


def _log_lines(label: str, total: int, done_before: int, unit: str) -> Advance:
    done = done_before
    last_note = ""
    start = time.monotonic()
    last_print = start - LOG_SECONDS
    lock = threading.Lock()

    def advance(steps: int = 1, note: str = "") -> None:
        """Print a line if the last one is LOG_SECONDS old, or if all steps are done."""
        nonlocal done, last_note, last_print
        with lock:
            done += steps
            last_note = note or last_note
            now = time.monotonic()
            if done < total and now - last_print < LOG_SECONDS:
                return
            last_print = now
            seconds_left = (now - start) * (total - done) / max(done - done_before, 1)
            line = f"{label}: {done}/{total} {unit}, {seconds_left:.0f} s left {last_note}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    return advance
