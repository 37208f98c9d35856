"""The tables of docs/result_format.md as data, and checks of files against them."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from irpipe.results.result import Result

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "result_format.md").read_text("utf-8")
# A range allows this much rounding.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class ArrayRow:
    """A row of a table of arrays."""

    name: str
    dtypes: list[str]
    axes: list[str]
    value_range: str
    meaning: str

    def is_in(self, result: Result) -> bool:
        """Whether the document promises this array for a result: not all have all options."""
        condition = re.match(r"only if `(\w+)`", self.meaning)
        return condition is None or bool(result.attrs["options"][condition[1]])


def section(heading: str) -> str:
    """The text below a heading, such as "## Results", up to the next one that is not below it."""
    level = len(heading.split(maxsplit=1)[0])
    text = TEXT.split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def array_rows(kind: str) -> list[ArrayRow]:
    """The rows of the arrays of a kind of attack, with those of every kind."""
    rows = []
    headings = ["#### every kind", f"#### `{kind}`"]
    for heading in headings[: 1 + (kind != "every kind")]:
        for line in section(heading).splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) == 7 and cells[1].startswith("`"):
                _, name, dtypes, axes, value_range, meaning, _ = cells
                row = ArrayRow(
                    name.strip("`"),
                    dtypes.split(" or "),
                    axes.strip("[]").split(", "),
                    value_range,
                    meaning,
                )
                rows.append(row)
    return rows


def names_in_first_column(text: str) -> list[str]:
    """All names in code in the first cells of a table."""
    cells = re.findall(r"^\| ((?:`\w+` ?)+)\|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]


def attribute_types() -> dict[str, type | tuple[type, ...]]:
    """Attribute of a result: the types of its value after `json.loads`."""
    types = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "object": dict,
        "list of strings": list,
    }
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("### Attributes"), re.MULTILINE)
    return {name: types[type_name] for name, type_name in rows}


def columns(kind: str) -> list[str]:
    """The columns of the CSV file of a kind of table."""
    (introduction, table) = re.findall(
        rf"^(`{kind}`|[^\n]*`{kind}`)[^|]*?:\n\n((?:\|.*\n)+)", section("## Tables"), re.MULTILINE
    )[0]
    assert introduction
    names = []
    for line in table.splitlines():
        # A column of one kind only begins with the kind: "`tau_table`: ...".
        kinds_of_column = re.findall(r"\| `(\w+)`: ", line)
        if kinds_of_column in ([], [kind]):
            names += names_in_first_column(line)
    return names


def shape_faults(result: Result) -> list[str]:
    """Arrays that are missing, superfluous, or of another dtype or shape than documented."""
    rows = {row.name: row for row in array_rows(result.attrs["kind"]) if row.is_in(result)}
    faults = [f"{name}: not in the document" for name in result.arrays.keys() - rows.keys()]
    faults += [f"{name}: not in the result" for name in rows.keys() - result.arrays.keys()]
    sizes: dict[str, int] = {}
    for name in rows.keys() & result.arrays.keys():
        row, array = rows[name], result.arrays[name]
        if str(array.dtype) not in row.dtypes:
            faults.append(f"{name}: {array.dtype}, not {row.dtypes}")
        if len(row.axes) != array.ndim:
            faults.append(f"{name}: shape {array.shape}, not {row.axes}")
            continue
        for axis, size in zip(row.axes, array.shape, strict=True):
            expected = int(axis) if axis.isdecimal() else sizes.setdefault(axis, size)
            if size != expected:
                faults.append(f"{name}: shape {array.shape}, not {row.axes} with {sizes}")
    return faults


def range_faults(result: Result) -> list[str]:
    """Arrays with a value outside the documented range, except NaN and zeros at eps = 0."""
    faults = []
    for row in array_rows(result.attrs["kind"]):
        if row.name in result.arrays and row.value_range != "true, false":
            low, high = _bounds(row.value_range, len(result.attrs["class_names"]))
            array = result.arrays[row.name]
            if row.axes[1:2] == ["E"] and "eps" in result.arrays:
                array = array[:, result.arrays["eps"] > 0]
            if np.nanmin(array) < low - TOLERANCE or np.nanmax(array) > high + TOLERANCE:
                faults.append(f"{row.name}: {np.nanmin(array)} to {np.nanmax(array)}")
    return faults


def _bounds(value_range: str, n_classes: int) -> tuple[float, float]:
    """The least and the largest value of a range as the document writes it."""
    if value_range in ("any", "logits"):
        return -np.inf, np.inf
    if value_range == "class":
        return 0, n_classes - 1
    patterns = {
        r"(-?\d+) to (-?\d+)$": (1, 2),
        r"(\d+)\.\.(\d+)$": (1, 2),
        r"(\d+)\.\.\d+ and more$": (1, None),
        r"(?:from|above) (\d+)$": (1, None),
        r"up to (\d+)$": (None, 1),
        r"^(\d+)$": (1, 1),
    }
    for pattern, (low, high) in patterns.items():
        if match := re.search(pattern, value_range):
            return float(match[low] if low else "-inf"), float(match[high] if high else "inf")
    raise ValueError(f"the document has an unknown range: {value_range}")
