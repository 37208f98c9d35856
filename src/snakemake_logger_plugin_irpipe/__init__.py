"""`snakemake --logger irpipe`: one line for each job that ends, with progress and time left."""

import logging
import sys
import time
from collections import Counter
from statistics import mean

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# Events that need no line of their own. All others are shown as Snakemake shows them.
SILENT = {
    LogEvent.WORKFLOW_STARTED,
    LogEvent.RUN_INFO,
    LogEvent.RESOURCES_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_INFO,
    LogEvent.GROUP_INFO,
    LogEvent.JOB_FINISHED,
    LogEvent.PROGRESS,
    LogEvent.SHELLCMD,
}


class LogHandler(LogHandlerBase):
    """Writes to stderr. What fails is shown in full."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Start the clock."""
        self.start = time.monotonic()
        self.names: dict[int, str] = {}  # by job id, as `rules` and `begun`
        self.rules: dict[int, str] = {}
        self.begun: dict[int, float] = {}  # of running jobs
        self.finished: list[str] = []
        self.left: Counter[str] = Counter()  # jobs by rule
        self.seconds: dict[str, list[float]] = {}  # of finished jobs by rule

    def emit(self, record: logging.LogRecord) -> None:
        """Note the names and times of jobs, and write a line when one has ended."""
        event, fields = getattr(record, "event", None), vars(record)
        if event == LogEvent.RUN_INFO:
            self.left.update(fields["stats"])
        elif event == LogEvent.JOB_INFO:
            job, rule = fields["jobid"], fields["rule_name"]
            values = [str(value) for value in (fields["wildcards"] or {}).values()]
            self.names[job] = f"{rule} {'/'.join(values)}".strip()
            self.rules[job], self.begun[job] = rule, time.monotonic()
        elif event == LogEvent.JOB_FINISHED:
            self._finish(fields["job_id"])
        elif event == LogEvent.PROGRESS:
            self._write_progress(fields["done"], fields["total"])
        elif event not in SILENT and (event or record.levelno >= logging.WARNING):
            if event == LogEvent.JOB_ERROR:
                self.begun.pop(fields.get("jobid", -1), None)
            # Without an event, lesser messages are of how Snakemake works.
            self._write(self.format(record))

    def _finish(self, job: int) -> None:
        self.finished.append(self.names.get(job, "job"))
        if job in self.begun:
            rule = self.rules[job]
            seconds = time.monotonic() - self.begun.pop(job)
            self.seconds.setdefault(rule, []).append(seconds)
            self.left[rule] -= 1

    def _write_progress(self, done: int, total: int) -> None:
        """One line for the jobs that ended since the last one: Snakemake counts after each."""
        left = round(self._seconds_left() or 0) if done < total else 0
        minutes = f"{left // 60}:{left % 60:02}"
        ending = f", about {minutes} min left" if left else ""
        self._write(f"[{done}/{total}] {', '.join(self.finished)}{ending}")
        self.finished.clear()

    def _seconds_left(self) -> float | None:
        """About how long the run still takes: its jobs take as long as the others of their rule.

        None as long as a rule runs of which no job has ended, such as the training of networks.
        Rules that have not begun count nothing: tables and figures come last and take seconds.
        """
        now = time.monotonic()
        means = {rule: mean(seconds) for rule, seconds in self.seconds.items()}
        running = {job: now - begun for job, begun in self.begun.items()}
        if not means or any(self.rules[job] not in means for job in running):
            return None
        done = [min(seconds, means[self.rules[job]]) for job, seconds in running.items()]
        work = sum(means.get(rule, 0) * n for rule, n in self.left.items()) - sum(done)
        spent = sum(map(sum, self.seconds.values())) + sum(running.values())
        return work * (now - self.start) / spent if spent else None

    def _write(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
