"""Seconds and memory of the workflow's jobs: Snakemake's benchmark files, read as one result."""

import csv
from pathlib import Path

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.files import files_below
from irpipe.results.result import Result

# Jobs that attack nothing, in the order in which they run.
JOBS_BEFORE_ATTACKS = ("data", "import", "train")
JOBS_AFTER_ATTACKS = ("tables", "figures")


def read_job_costs(folder: Path) -> Result:
    """All benchmark files (.tsv) below `folder`, as a Result whose `attack` is "job_costs".

    Its arrays have one entry per job:
    - `job`: data, import, train, an attack's name, tables or figures;
    - `seconds`: wall-clock time;
    - `memory`: peak of the resident memory in MiB, NaN if the job ended before it was measured.

    They are empty if there is no such file, as in a copy of the results alone. Raises IrpipeError
    if there is no such folder, or if a file is no benchmark of Snakemake.
    """
    jobs: list[tuple[str, float, float]] = []
    for path in sorted(file for file in files_below(folder) if file.suffix == ".tsv"):
        top_folder = path.relative_to(folder).parts[0]
        try:
            with path.open(newline="", encoding="utf-8") as file:
                last_line = list(csv.DictReader(file, delimiter="\t"))[-1]
            job = top_folder if top_folder in ("data", *JOBS_AFTER_ATTACKS) else path.stem
            jobs.append((job, _number(last_line["s"]), _number(last_line["max_rss"])))
        except (OSError, UnicodeDecodeError, IndexError, KeyError) as error:
            raise IrpipeError(f"{path}: not a benchmark file of Snakemake") from error
    arrays = {
        "job": np.array([job for job, _, _ in jobs], dtype=str),
        "seconds": np.array([seconds for _, seconds, _ in jobs], dtype=float),
        "memory": np.array([memory for _, _, memory in jobs], dtype=float),
    }
    return Result({"attack": "job_costs"}, arrays)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # Snakemake writes "-" or "NA" where it measured nothing.
        return float("nan")
