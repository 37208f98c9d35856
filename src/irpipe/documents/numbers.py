"""Named numbers, the files that they come from, and their list at the end of a page."""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from irpipe.errors import IrpipeError
from irpipe.results.labels import number_ranges

LIST_HEADING = "## Where the numbers come from\n"
LIST_INTRODUCTION = (
    "Each number of this page with the files that it comes from. `sha256` has the first 16 digits\n"
    "of a file's SHA-256 (`sha256sum FILE`), `code_hash` names the code that made the file.\n"
)
FOLDED = "<details><summary>The list</summary>\n"
FENCE = "```"
NUMBER_COLUMNS = ["number", "value", "files"]
FILE_COLUMNS = ["file", "path", "sha256", "code_hash"]
DIGITS = 16  # of a SHA-256, as LIST_INTRODUCTION says


class Source(NamedTuple):
    """A file: its path below the folder of results, its SHA-256 and the hash of its code."""

    path: str
    sha256: str
    code_hash: str


class Number(NamedTuple):
    """A number as the page prints it, and the files that it comes from, sorted."""

    text: str
    sources: tuple[Source, ...]


Name = tuple[str, ...]
Numbers = Mapping[Name, Number]


def short_sha256(path: Path) -> str:
    """The first digits of a file's SHA-256, as the lists have them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def format_list(numbers: Numbers) -> str:
    """The section at the end of a page: the numbers and their files, as two CSV tables."""
    files = sorted({source for number in numbers.values() for source in number.sources})
    index = {source: position for position, source in enumerate(files, 1)}
    rows = [
        ("; ".join(name), number.text, number_ranges(index[source] for source in number.sources))
        for name, number in numbers.items()
    ]
    tables = _as_csv(NUMBER_COLUMNS, rows), _as_csv(FILE_COLUMNS, _numbered(files))
    blocks = [f"{FENCE}csv\n{table}{FENCE}\n" for table in tables]
    return "\n".join([LIST_HEADING, LIST_INTRODUCTION, FOLDED, *blocks, "</details>\n"])


def read_list(path: Path) -> dict[Name, Number]:
    """The numbers of the list at the end of a page. Raises IrpipeError if there is none."""
    try:
        _, section = path.read_text(encoding="utf-8").split(LIST_HEADING)
        numbers, files = (
            list(csv.DictReader(io.StringIO(block.removeprefix("csv\n"))))
            for block in section.split(FENCE)[1::2]
        )
        sources = {
            int(row["file"]): Source(row["path"], row["sha256"], row["code_hash"]) for row in files
        }
        return {
            tuple(row["number"].split("; ")): Number(
                row["value"], tuple(sources[index] for index in _indices(row["files"]))
            )
            for row in numbers
        }
    except (OSError, ValueError, KeyError) as error:
        raise IrpipeError(
            f"{path}: no list of its numbers at the end; delete it and make it from results"
        ) from error


def _as_csv(columns: list[str], rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def _numbered(files: list[Source]) -> Iterator[tuple[object, ...]]:
    return ((index, *source) for index, source in enumerate(files, 1))


def _indices(ranges: str) -> Iterator[int]:
    """The numbers in a text such as "1-3, 6"."""
    for part in ranges.split(", "):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
