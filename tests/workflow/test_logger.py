"""The terminal of a run: one line for each job, with progress and time left."""

import logging
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_irpipe as plugin


def emit(handler: plugin.LogHandler, event: LogEvent | None, level: int, **fields: Any) -> None:
    record = logging.LogRecord("snakemake", level, "", 0, "a message", None, None)
    vars(record).update(fields, event=event)
    handler.emit(record)


class Clock:
    """A clock that stands at `now`, in seconds."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(plugin, "time", clock)
    return clock


def start(handler: plugin.LogHandler, job: int, rule: str, **wildcards: str) -> None:
    fields = {"jobid": job, "rule_name": rule, "wildcards": wildcards or None}
    emit(handler, LogEvent.JOB_INFO, logging.INFO, **fields)


def finish(handler: plugin.LogHandler, job: int, done: int, total: int) -> None:
    emit(handler, LogEvent.JOB_FINISHED, logging.INFO, job_id=job)
    emit(handler, LogEvent.PROGRESS, logging.INFO, done=done, total=total)


def test_each_job_has_one_line_and_an_error_is_shown(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = plugin.LogHandler(None, None)  # type: ignore[arg-type]
    start(handler, 7, "train", dataset="digits", method="int")
    start(handler, 8, "page")
    emit(handler, None, logging.INFO)
    finish(handler, 7, 1, 2)
    emit(handler, LogEvent.JOB_ERROR, logging.ERROR)
    finish(handler, 8, 2, 2)
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] train digits/int",
        "a message",
        "[2/2] page",
    ]


def test_the_time_left_is_that_of_each_rules_jobs(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two jobs run at a time. A training takes 100 s, an evaluation 20 s, checking data 4 s.

    Nothing is said after 4 s, since a training runs and nobody knows its time. Evaluations count
    once one has ended. By hand, jobs that are left times elapsed seconds by seconds of jobs:

    - after 100 s: (2 * 100 - 96) * 100 / (4 + 100 + 96) = 52 s;
    - after 104 s: 100 * 104 / (4 + 100 + 100) = 51 s;
    - after 124 s: (3 * 20 + 100 - 20) * 124 / (4 + 100 + 100 + 20 + 20) = 71 s.
    """
    handler = plugin.LogHandler(None, None)  # type: ignore[arg-type]
    stats = {"check_data": 1, "train": 3, "evaluate": 4, "table": 1, "total": 9}
    emit(handler, LogEvent.RUN_INFO, logging.INFO, stats=stats)
    start(handler, 1, "check_data")
    start(handler, 2, "train")
    clock.now += 4
    finish(handler, 1, 1, 9)
    start(handler, 3, "train")
    clock.now += 96
    finish(handler, 2, 2, 9)
    clock.now += 4
    finish(handler, 3, 3, 9)
    start(handler, 4, "train")
    start(handler, 5, "evaluate")
    clock.now += 20
    finish(handler, 5, 4, 9)
    expected = ["[1/9] check_data", "[2/9] train, about 0:52", "[3/9] train, about 0:51"]
    expected.append("[4/9] evaluate, about 1:11")
    assert [line.removesuffix(" min left") for line in capsys.readouterr().err.splitlines()] == (
        expected
    )
