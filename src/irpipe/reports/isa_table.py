"""The table compares the normalised discrepancy score (NDS) and the normalised slope (NSL) under
the interpretability sneaking attack with the published ones (Table 1 of the paper), for each
discrepancy measure.
"""

import math
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from irpipe.analysis.nds import NDS_ARRAYS, Scores, measures_of, scores_of
from irpipe.interpretability.discrepancy import DiscrepancyMeasure
from irpipe.option_types import Names
from irpipe.published import (
    CLASS_SETS,
    INTERPRETERS,
    NORMS,
    Table1Key,
    Table1Value,
    published_table1,
)
from irpipe.reports._cells import Record, mark_of
from irpipe.reports._render import CellText, SubTable, TablePage, legend, write
from irpipe.results.labels import DatasetModel, dataset_model_label, method_label
from irpipe.results.result import Result
from irpipe.results.select import select_attack

# Relative differences of NDS from the published value (C.0).
MARK_ABOVE = 0.05
DOUBLE_MARK_ABOVE = 0.15
# What the paper claims in Sec. 5, for each interpreter and norm.
TWO_CLASS_CLAIMS = ("2-class: largest NDS", "2-class: smallest NSL")
LEGEND = (
    (
        "",
        "Each cell shows NDS/NSL of the attacks that succeed: how much the maps must change at "
        "least, and how much less with a larger ε. The second line has the 95% bootstrap interval "
        "of NDS over images, NSL per image instead of per point (C.5 I2), and the number of images "
        "and points that count.",
    ),
    ("(", "The published values stand in parentheses."),
    ("*", "* marks an NDS that differs from the published value by more than 5%."),
    ("**", "** marks one that differs by more than 15%."),
    (
        "squared",
        "squared: the scores of the squared norm, if they are nearer to the published ones "
        "(C.5 I5).",
    ),
)


class IsaCell(NamedTuple):
    """The scores of one measure under one interpreter."""

    measure: DiscrepancyMeasure
    measured: Scores
    squared: Scores
    published: Table1Value | None


Row = tuple[Result, list[IsaCell]]


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["isa"],  # noqa: B006
    published: Literal["1"] | None = None,
    # Leave out the first point, the plain attack (C.5 I3).
    skip_pgd_point: bool = False,
    # Keep images whose discrepancy no larger eps lowers (C.5 I4).
    keep_unchanged: bool = False,
) -> list[Path]:
    """Write the table with one row per attack and network; return the paths of its files.

    Each attack is on one interpreter. The last columns say whether the paper's two claims on the
    2-class measure hold in a row. Raises IrpipeError as `select_attack` does.
    """
    published_values = published_table1() if published else {}
    rows: dict[DatasetModel, list[Row]] = {}
    for attack in attacks:
        for pair, group in select_attack(results, attack, output.name, NDS_ARRAYS).items():
            for result in group:
                cells = _cells(
                    result,
                    published_values,
                    skip_pgd_point=skip_pgd_point,
                    keep_unchanged=keep_unchanged,
                )
                rows.setdefault(pair, []).append((result, cells))
    records = [
        _record(output.name, result, cell, cells)
        for pair_rows in rows.values()
        for result, cells in pair_rows
        for cell in cells
    ]
    subtables = [_subtable(pair, pair_rows) for pair, pair_rows in rows.items()]
    page = TablePage(title, subtables, legend(LEGEND, subtables))
    return write(output, page, pd.DataFrame(records, dtype=object))


def _cells(
    result: Result, published: dict[Table1Key, Table1Value], **switches: bool
) -> list[IsaCell]:
    """One cell for each measure of a result."""
    attrs = result.attrs
    key = attrs["dataset"], attrs["model"], attrs["method"], attrs["options"]["interpreter"]
    return [
        IsaCell(
            measure,
            measured=scores_of(result, index, **switches),
            squared=scores_of(result, index, squared=True, **switches),
            published=published.get(Table1Key(*key, *measure)),
        )
        for index, measure in enumerate(measures_of(result))
    ]


def _subtable(pair: DatasetModel, rows: list[Row]) -> SubTable:
    """The rows of one data set and model, with one column per measure and one per claim."""
    measures = list(dict.fromkeys(cell.measure for _, cells in rows for cell in cells))
    norms, class_sets = list(NORMS), list(CLASS_SETS)
    measures.sort(key=lambda m: (norms.index(m.norm), class_sets.index(m.class_set)))
    n_images = sorted({len(result.arrays["is_valid"]) for result, _ in rows})
    heading = f"{dataset_model_label(pair)}, n = {' or '.join(map(str, n_images))}"
    titles = [f"{NORMS[measure.norm]} {CLASS_SETS[measure.class_set]}" for measure in measures]
    header = ["Interpreter", *titles, *TWO_CLASS_CLAIMS]
    results = [result for result, _ in rows]
    text_rows = [
        _row(method_label(result, results), result, cells, measures) for result, cells in rows
    ]
    return SubTable(heading, header, text_rows)


def _row(
    label: str, result: Result, cells: list[IsaCell], measures: list[DiscrepancyMeasure]
) -> list[CellText]:
    interpreter = INTERPRETERS[result.attrs["options"]["interpreter"]]
    by_measure = {cell.measure: cell for cell in cells}
    texts = [
        _text(by_measure[measure]) if measure in by_measure else CellText("–")
        for measure in measures
    ]
    answers = {cell.measure.norm: _claim_answers(cells, cell.measure.norm) for cell in cells}
    for claim in range(len(TWO_CLASS_CLAIMS)):
        parts = [f"{NORMS[norm]} {pair[claim]}" for norm, pair in answers.items() if pair[claim]]
        texts.append(CellText(", ".join(parts) or "–"))
    return [CellText(interpreter, second_line=label), *texts]


def _claim_answers(cells: list[IsaCell], norm: str) -> tuple[str, str]:
    """Whether the 2-class measure has the largest NDS and the smallest NSL of a norm.

    Empty texts if the norm has no other measure to compare with, or one of them no score.
    """
    scores = {cell.measure.class_set: cell.measured for cell in cells if cell.measure.norm == norm}
    if (
        len(scores) < 2
        or "two" not in scores
        or not all(score.n_images for score in scores.values())
    ):
        return "", ""
    two = scores.pop("two")
    has_largest_nds = all(two.nds > other.nds for other in scores.values())
    has_smallest_nsl = all(two.nsl_per_point < other.nsl_per_point for other in scores.values())
    return _answer(has_largest_nds), _answer(has_smallest_nsl)


def _answer(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def _mark(cell: IsaCell) -> str:
    if cell.published is None or math.isnan(cell.measured.nds):
        return ""
    difference = abs(cell.measured.nds / cell.published.nds - 1)
    return mark_of(difference, MARK_ABOVE, DOUBLE_MARK_ABOVE)


def _text(cell: IsaCell) -> CellText:
    measured, published = cell.measured, cell.published
    muted = f"({published.nds:.4g}/{published.nsl:.4f})" if published else ""
    if not measured.n_images:
        return CellText("–", muted, "no image")
    second_line = (
        f"[{measured.low:.3g}, {measured.high:.3g}], {measured.nsl_per_image:.3f} per image, "
        f"{measured.n_images} images, {measured.n_points} points"
    )
    if published and cell.measure.norm == "l2":
        squared = cell.squared
        if squared.log_distance(published) < measured.log_distance(published):
            second_line += f"; squared: {squared.nds:.4g}/{squared.nsl_per_point:.4f}"
    text = f"{measured.nds:.4g}/{measured.nsl_per_point:.4f}"
    return CellText(text, muted, second_line, _mark(cell))


def _record(table: str, result: Result, cell: IsaCell, row: list[IsaCell]) -> Record:
    attrs = result.attrs
    published = cell.published
    is_l2 = cell.measure.norm == "l2"
    has_largest_nds, has_smallest_nsl = "", ""
    if cell.measure.class_set == "two":
        has_largest_nds, has_smallest_nsl = _claim_answers(row, cell.measure.norm)
    return {
        "table": table,
        **{key: attrs[key] for key in ("dataset", "model", "method", "run", "attack")},
        "interpreter": attrs["options"]["interpreter"],
        **cell.measure._asdict(),
        **{name: round(value, 6) for name, value in cell.measured._asdict().items()},
        "nds_squared": round(cell.squared.nds, 6) if is_l2 else None,
        "nsl_squared": round(cell.squared.nsl_per_point, 6) if is_l2 else None,
        "published_nds": published.nds if published else None,
        "published_nsl": published.nsl if published else None,
        "mark": _mark(cell),
        "largest_nds": has_largest_nds,
        "smallest_nsl": has_smallest_nsl,
        "network_sha256": attrs["network_sha256"],
        "code_hash": attrs["code_hash"],
    }
