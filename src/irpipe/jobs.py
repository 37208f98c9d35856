"""What the workflow's jobs cost: Snakemake's benchmark files, read as one result."""

import csv
from pathlib import Path

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.io import Result

BEFORE, AFTER = ("data", "import", "train"), ("tables", "figures")  # jobs that attack nothing, in the order they run


def read_benchmarks(folder: Path) -> Result:
    """Read all benchmark files (.tsv) below `folder` as a result of "attack" `benchmarks`, with one entry a job.

    Arrays: `job` (what it did: data, import, train, an attack's name, tables, figures), `seconds` and `memory` (MiB,
    the peak of resident memory; NaN where the job ended before it was measured). Raises IrpipeError if there is no
    file, or one that is no benchmark.
    """
    jobs: list[tuple[str, float, float]] = []
    for path in sorted(folder.rglob("*.tsv")):
        place = path.relative_to(folder)
        try:
            with path.open(newline="") as file:
                line = list(csv.DictReader(file, delimiter="\t"))[-1]
            job = place.parts[0] if place.parts[0] in ("data", *AFTER) else path.stem
            jobs.append((job, _number(line["s"]), _number(line["max_rss"])))
        except (OSError, UnicodeDecodeError, IndexError, KeyError) as error:
            raise IrpipeError(f"{path}: not a benchmark file of Snakemake") from error
    if not jobs:
        raise IrpipeError(f"{folder}: no benchmark files (.tsv)")
    names, seconds, memory = map(np.array, zip(*jobs, strict=True))
    return Result({"attack": "benchmarks"}, {"job": names, "seconds": seconds, "memory": memory})


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "-" or "NA"
        return float("nan")
