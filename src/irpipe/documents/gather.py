"""All numbers that the files below a folder of results give."""

from collections.abc import Iterator
from pathlib import Path

from irpipe.documents.cells import network_name, result_numbers
from irpipe.documents.comparisons import Sourced, comparison_numbers
from irpipe.documents.figures import figure_numbers
from irpipe.documents.measurements import Measurement, measurement_numbers, read_measurement
from irpipe.documents.numbers import Name, Number, Source, short_sha256
from irpipe.documents.verdicts import verdict_numbers
from irpipe.errors import IrpipeError
from irpipe.files import files_below
from irpipe.results.result import read_result
from irpipe.results.training_log import read_training_log

TRAINING_LOG = "training_log.csv"
MEASUREMENTS = "measurements"  # the folder of the benchmarks' files


def gather(folder: Path, figures: Path) -> dict[Name, Number]:
    """The numbers of all results, training logs and measurements below `folder`.

    Draws the figures into the folder `figures`. Raises IrpipeError if two files give one number,
    if there is no file, and as reading and the reports do.
    """
    sourced: list[Sourced] = []
    measured: list[tuple[Measurement, Source]] = []
    for path in files_below(folder):
        if path.suffix == ".h5" or path.name == TRAINING_LOG:
            read = read_result if path.suffix == ".h5" else read_training_log
            result = read(path)
            sourced.append((result, _source(path, folder, result.attrs["code_hash"])))
        elif path.suffix == ".json" and path.parent.name == MEASUREMENTS:
            measurement = read_measurement(path)
            measured.append((measurement, _source(path, folder, measurement.code_hash)))
    if not sourced and not measured:
        raise IrpipeError(f"{folder}: no result (.h5), training log or measurement below it")
    numbers: dict[Name, Number] = {}
    for name, (text, sources) in _all_numbers(sourced, measured, figures):
        number = Number(text, tuple(sorted(set(sources))))
        other = numbers.setdefault(name, number)
        if other is not number:
            raise IrpipeError(
                f"{folder}: {other.sources[0].path} and {number.sources[0].path} both give "
                f"'{'; '.join(name)}'; keep one of them"
            )
    return numbers


def _all_numbers(
    sourced: list[Sourced], measured: list[tuple[Measurement, Source]], figures: Path
) -> Iterator[tuple[Name, Number]]:
    attacked = [item for item in sourced if item[0].attrs["attack"] != "training"]
    for result, source in attacked:
        yield from result_numbers(result, source)
    for result, source in sourced:
        if result.attrs["attack"] == "training":
            name = ("training", network_name(result))
            seconds = f"{result.arrays['seconds'].sum():.0f}"
            yield (*name, "seconds"), Number(seconds, (source,))
            yield (*name, "device"), Number(result.attrs["device"], (source,))
    yield from comparison_numbers(attacked)
    yield from verdict_numbers(attacked)
    for measurement, source in measured:
        yield from measurement_numbers(measurement, source)
    yield from figure_numbers(sourced, figures)


def _source(path: Path, folder: Path, code_hash: str) -> Source:
    return Source(path.relative_to(folder).as_posix(), short_sha256(path), code_hash)
