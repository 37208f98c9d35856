"""NDS and NSL of sneaking attacks for each measure of discrepancy, beside the published values (Table 1)."""

import math
from pathlib import Path
from typing import Literal, NamedTuple

from irpipe.io import Result
from irpipe.maps.discrepancy import Specification
from irpipe.published import CLASS_SETS, INTERPRETERS, NORMS, Measure, Resistance, resistances
from irpipe.quantities import Names
from irpipe.reports.parts import nds
from irpipe.reports.parts.nds import Scores
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import Pair, method, network, select

NEAR, FAR = 0.05, 0.15  # relative difference of NDS from the published value: C.0; the bar of the reproduction
CLAIMS = ("2-class: largest NDS", "2-class: smallest NSL")  # of an interpreter and norm, paper Sec. 5
LEGEND = (
    "NDS/NSL of the attacks that succeed, the published values in parentheses; below, the 95% bootstrap interval of "
    "NDS over images, NSL per image instead of per point (C.5 I2), and the images and points it rests on. NDS "
    "differs from the published value: * by more than 5%, ** by more than 15%. Squared: the same scores of the squared "
    "norm, where they are nearer to what is printed."
)


class Cell(NamedTuple):
    """One measure under one interpreter."""

    specification: Specification
    ours: Scores
    squared: Scores
    theirs: Resistance | None


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["isa"],  # noqa: B006 (read, never changed)
    published: Literal["1"] | None = None,
    isa_only: bool = False,  # leave out the plain attack, C.5 I3
    keep_unchanged: bool = False,  # keep images that no radius helps, C.5 I4
) -> list[Path]:
    """Write a table as `output`.csv (one record per cell), .md, .tex and .html; return the four paths.

    A row is an attack, one for each interpreter; the last columns say whether the paper's two claims on the 2-class
    measure hold in it. Raises IrpipeError as `selection.select` does.
    """
    printed = resistances() if published else {}
    found: dict[Pair, list[tuple[Result, list[Cell]]]] = {}
    for attack in attacks:
        for pair, members in select(results, attack, output.name, nds.ARRAYS).items():
            for result in members:
                cells = _cells(result, printed, isa_only=isa_only, keep_unchanged=keep_unchanged)
                found.setdefault(pair, []).append((result, cells))
    blocks, records = [], []
    for pair, rows in found.items():
        columns = list(dict.fromkeys(cell.specification for _, cells in rows for cell in cells))
        columns.sort(key=lambda s: ([*NORMS].index(s.norm), [*CLASS_SETS].index(s.classes)))
        header = ["Interpreter", *(f"{NORMS[s.norm]} {CLASS_SETS[s.classes]}" for s in columns), *CLAIMS]
        blocks.append(Block(_heading(pair, rows), header, [_row(result, cells, columns) for result, cells in rows]))
        records += [_record(output.name, result, cell, cells) for result, cells in rows for cell in cells]
    return write(output, Page(title, blocks, LEGEND), records)


def _cells(result: Result, printed: dict[Measure, Resistance], **switches: bool) -> list[Cell]:
    """Scores of each specification of a result, and the published ones of its network."""
    attrs, cells = result.attrs, []
    about = attrs["dataset"], attrs["model"], attrs["method"], attrs["spec"]["interpreter"]
    for place, specification in enumerate(nds.measured_by(result)):
        ours, squared = (nds.of(result, place, squared=square, **switches) for square in (False, True))
        cells.append(Cell(specification, ours, squared, printed.get(Measure(*about, *specification))))
    return cells


def _heading(pair: Pair, rows: list[tuple[Result, list[Cell]]]) -> str:
    counts = " or ".join(str(n) for n in sorted({len(result.arrays["valid"]) for result, _ in rows}))
    return f"{network(pair)}, n = {counts}"


def _claims(cells: list[Cell], norm: str) -> tuple[str, str]:
    """Whether the 2-class measure has the largest NDS and the smallest NSL of a norm; empty if it stands alone."""
    ours = {cell.specification.classes: cell.ours for cell in cells if cell.specification.norm == norm}
    if len(ours) < 2 or "two" not in ours:
        return "", ""
    two, others = ours["two"], [score for classes, score in ours.items() if classes != "two"]
    largest = all(two.nds > other.nds for other in others)
    smallest = all(two.nsl_per_point < other.nsl_per_point for other in others)
    return ("holds" if largest else "does not hold"), ("holds" if smallest else "does not hold")


def _row(result: Result, cells: list[Cell], columns: list[Specification]) -> list[Entry]:
    by = {cell.specification: cell for cell in cells}
    entries = [_entry(by[column]) if column in by else Entry("–") for column in columns]
    norms = list(dict.fromkeys(cell.specification.norm for cell in cells))
    for claim in range(len(CLAIMS)):
        said = [f"{NORMS[norm]} {answer}" for norm in norms if (answer := _claims(cells, norm)[claim])]
        entries.append(Entry(", ".join(said) or "–"))
    return [Entry(INTERPRETERS[result.attrs["spec"]["interpreter"]], below=method(result)), *entries]


def _mark(cell: Cell) -> str:
    if cell.theirs is None or math.isnan(cell.ours.nds):
        return ""
    apart = abs(cell.ours.nds / cell.theirs.nds - 1)
    return "**" if apart > FAR else "*" if apart > NEAR else ""


def _entry(cell: Cell) -> Entry:
    ours, theirs = cell.ours, cell.theirs
    aside = f"({theirs.nds:.4g}/{theirs.nsl:.4f})" if theirs else ""
    if not ours.images:
        return Entry("–", aside, "no image")
    rests = f"{ours.images} images, {ours.points} points"
    below = f"[{ours.low:.3g}, {ours.high:.3g}], {ours.nsl_per_image:.3f} per image, {rests}"
    if theirs and cell.specification.norm == "l2" and cell.squared.apart(theirs) < ours.apart(theirs):
        below += f"; squared: {cell.squared.nds:.4g}/{cell.squared.nsl_per_point:.4f}"
    return Entry(f"{ours.nds:.4g}/{ours.nsl_per_point:.4f}", aside, below, _mark(cell))


def _record(table: str, result: Result, cell: Cell, row: list[Cell]) -> dict[str, object]:
    ours, theirs, attrs = cell.ours, cell.theirs, result.attrs
    largest, smallest = _claims(row, cell.specification.norm) if cell.specification.classes == "two" else ("", "")
    numbers = {name: round(value, 6) for name, value in ours._asdict().items()}
    is_l2 = cell.specification.norm == "l2"
    return {
        "table": table,
        **{key: attrs[key] for key in ("dataset", "model", "method", "run", "attack")},
        "interpreter": attrs["spec"]["interpreter"],
        **cell.specification._asdict(),
        **numbers,
        "nds_squared": round(cell.squared.nds, 6) if is_l2 else "",
        "nsl_squared": round(cell.squared.nsl_per_point, 6) if is_l2 else "",
        "published_nds": theirs.nds if theirs else "",
        "published_nsl": theirs.nsl if theirs else "",
        "mark": _mark(cell),
        "largest_nds": largest,
        "smallest_nsl": smallest,
        "network_sha256": attrs["network_sha256"],
        "code": attrs["code"],
    }
