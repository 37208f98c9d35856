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


def test_each_job_has_one_line_and_an_error_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of four jobs took 50 s, so the other three take about 150 s."""
    now = iter([1000.0, 1050.0, 1090.0])
    monkeypatch.setattr(plugin.time, "monotonic", lambda: next(now))
    handler = plugin.LogHandler(None, None)  # type: ignore[arg-type]
    names = {"dataset": "digits", "method": "int"}
    emit(handler, LogEvent.JOB_INFO, logging.INFO, jobid=7, rule_name="train", wildcards=names)
    emit(handler, LogEvent.JOB_INFO, logging.INFO, jobid=8, rule_name="page", wildcards=None)
    emit(handler, None, logging.INFO)
    emit(handler, LogEvent.JOB_FINISHED, logging.INFO, job_id=7)
    emit(handler, LogEvent.PROGRESS, logging.INFO, done=1, total=4)
    emit(handler, LogEvent.JOB_ERROR, logging.ERROR)
    emit(handler, LogEvent.JOB_FINISHED, logging.INFO, job_id=8)
    emit(handler, LogEvent.PROGRESS, logging.INFO, done=4, total=4)
    assert capsys.readouterr().err.splitlines() == [
        "[1/4] train digits/int, about 2:30 min left",
        "a message",
        "[4/4] page",
    ]
