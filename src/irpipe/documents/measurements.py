"""Measurements of the benchmarks: JSON files with one table each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from irpipe.documents.numbers import Name, Number, Source
from irpipe.errors import IrpipeError
from irpipe.files import atomic_write


class Measurement(NamedTuple):
    """A table of measurements: one mapping per row, from column to number or text.

    All rows have the same columns. `machine` says on what, in words, they were made.
    """

    name: str
    machine: str
    code_hash: str
    rows: list[dict[str, Any]]


def write_measurement(folder: Path, measurement: Measurement) -> Path:
    """Write a measurement as `folder`/NAME.json, atomically; return the path."""
    path = folder / f"{measurement.name}.json"
    with atomic_write(path) as temporary:
        text = json.dumps(measurement._asdict(), indent=1, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")
    return path


def read_measurement(path: Path) -> Measurement:
    """Read a measurement. Raises IrpipeError if the file is none."""
    try:
        return Measurement(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise IrpipeError(
            f"{path}: not a measurement; expected JSON with {', '.join(Measurement._fields)}"
        ) from error


def measurement_numbers(measurement: Measurement, source: Source) -> Iterator[tuple[Name, Number]]:
    """The numbers by name: measured; NAME; row from 0; column. The machine is `machine; NAME`."""
    yield ("machine", measurement.name), Number(measurement.machine, (source,))
    for index, row in enumerate(measurement.rows):
        for column, value in row.items():
            name = ("measured", measurement.name, str(index), column)
            yield name, Number(_text(value), (source,))


def _text(value: object) -> str:
    """A number with three significant digits or no decimals, a whole number or text as it is."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
