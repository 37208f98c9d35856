"""`snakemake --logger irpipe`: one line for each job that ends, with progress and time left."""

import logging
import sys
import time

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
        self.names: dict[int, str] = {}  # by job id
        self.finished: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note the names of jobs, and write a line when one has ended."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            fields = vars(record)
            values = [str(value) for value in (fields["wildcards"] or {}).values()]
            self.names[fields["jobid"]] = f"{fields['rule_name']} {'/'.join(values)}".strip()
        elif event == LogEvent.JOB_FINISHED:
            self.finished.append(self.names.get(vars(record)["job_id"], "job"))
        elif event == LogEvent.PROGRESS:
            self._write_progress(vars(record)["done"], vars(record)["total"])
        elif event not in SILENT and (event or record.levelno >= logging.WARNING):
            # Without an event, lesser messages are of how Snakemake works.
            self._write(self.format(record))

    def _write_progress(self, done: int, total: int) -> None:
        """One line for the jobs that ended since the last one: Snakemake counts after each."""
        seconds = time.monotonic() - self.start
        left = round(seconds * (total - done) / done) if done else 0
        minutes = f"{left // 60}:{left % 60:02}"
        ending = f", about {minutes} min left" if left else ""
        self._write(f"[{done}/{total}] {', '.join(self.finished)}{ending}")
        self.finished.clear()

    def _write(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
