"""Cells of tables that show a measured number next to the published one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from irpipe.analysis.columns import Column
from irpipe.published import METHODS, PublishedValue
from irpipe.reports._render import CellText, SubTable
from irpipe.results.accuracy import Accuracy
from irpipe.results.labels import eps_label, method_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import network_of

Record = dict[str, object]

# What follows the label of a network that has proofs, by the metric of the row.
LABEL_SUFFIXES = {"accuracy": ", attacked", "certified": ", certified", "undecided": ", undecided"}
ROUNDING_TOLERANCE = 1e-6  # of differences between numbers with three decimals


@dataclass(frozen=True)
class TableCell:
    """A mean over `n` images with its 95% interval, and the number that the paper prints.

    `mark` says how far the two differ ("", "*" or "**"). `digits` is the number of decimals of the
    interval in the text, and `note` follows it. `extra_columns` has further numbers of the record,
    by column name.
    """

    result: Result
    column: Column
    value: float
    n: int
    low: float
    high: float
    published: PublishedValue | None
    mark: str = ""
    metric: str = "accuracy"
    digits: int = 2
    note: str = ""
    extra_columns: Mapping[str, float] = field(default_factory=dict)

    def text(self) -> CellText:
        """The cell as people read it; a dash if the mean is over no image."""
        if not self.n:
            return CellText("–", _in_parentheses(self.published), self.note, self.mark)
        interval = f"[{self.low:z.{self.digits}f}, {self.high:z.{self.digits}f}]"
        second_line = f"{interval} {self.note}" if self.note else interval
        return CellText(
            f"{self.value:z.3f}", _in_parentheses(self.published), second_line, self.mark
        )

    def record(self, table: str) -> Record:
        """The cell as a row of the table's data frame."""
        attrs = self.result.attrs
        published = self.published
        difference = None
        if published:
            # Adding 0.0 turns -0.0 into 0.0.
            difference = round(self.value - published.value, 6) + 0.0
        return {
            "table": table,
            **{key: attrs[key] for key in ("dataset", "model", "method", "run", "attack")},
            "eps": eps_label(self.column.eps),
            "steps": self.column.steps,
            "metric": self.metric,
            "value": round(self.value, 6),
            "n": self.n,
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "spread": None,
            "published": published.value if published else None,
            "published_as": published.published_as if published else "",
            "difference": difference,
            "mark": self.mark,
            **{name: round(number, 6) for name, number in self.extra_columns.items()},
            "network_sha256": attrs["network_sha256"],
            "code_hash": attrs["code_hash"],
        }


def accuracy_cell(
    result: Result, column: Column, measured: Accuracy, published: PublishedValue | None
) -> TableCell:
    """A cell with an accuracy. "*" marks a difference of one image, "**" one of more images."""
    difference = abs(measured.value - published.value) if published else 0.0
    if difference < 0.5 / measured.n:
        mark = ""
    elif difference <= 1 / measured.n + ROUNDING_TOLERANCE:
        mark = "*"
    else:
        mark = "**"
    return TableCell(result, column, *measured, published, mark)


def mark_of(difference: float, mark_above: float, double_mark_above: float) -> str:
    """The mark of a difference: "**", "*" or ""."""
    if difference > double_mark_above:
        return "**"
    return "*" if difference > mark_above else ""


def sub_table(
    table: str, heading: str, columns: list[Column], rows: list[list[TableCell]]
) -> tuple[SubTable, pd.DataFrame]:
    """Text and data frame of `rows`, which hold the cells of one network each.

    A method that was trained from several seeds gets one more row for each metric, with their mean
    and standard deviation. The data frame has one row per cell.
    """
    results = [row[0].result for row in rows]
    proven = {network_of(row[0].result) for row in rows if row[0].metric == "certified"}

    def suffix(cell: TableCell) -> str:
        """The end of the label of a cell's row, which says which of several rows it is."""
        return LABEL_SUFFIXES[cell.metric] if network_of(cell.result) in proven else ""

    text_rows = [
        [
            _network_text(row, method_label(row[0].result, results) + suffix(row[0])),
            *(cell.text() for cell in row),
        ]
        for row in rows
    ]
    records = [cell.record(table) for row in rows for cell in row]
    trained: dict[tuple[str, str], list[list[TableCell]]] = {}
    for row in rows:
        attrs = row[0].result.attrs
        if attrs["run"] != "released":
            trained.setdefault((attrs["method"], row[0].metric), []).append(row)
    for (method, _), seed_rows in trained.items():
        if len(seed_rows) > 1:
            cells_by_column = list(zip(*seed_rows, strict=True))
            label = CellText(
                METHODS.get(method, method) + suffix(seed_rows[0][0]),
                second_line=f"mean of {len(seed_rows)} seeds",
            )
            text_rows.append([label, *(_mean_text(cells) for cells in cells_by_column)])
            records += [_mean_record(table, cells) for cells in cells_by_column]
    header = ["Method", *(column.title for column in columns)]
    return SubTable(heading, header, text_rows), pd.DataFrame(records, dtype=object)


def missing_column_message(result: Result, column: Column) -> str:
    """The complaint that a result was not evaluated at the eps and step count of a column."""
    eps_values = ", ".join(eps_label(float(eps)) for eps in result.arrays["eps"])
    step_counts = ", ".join(str(count) for count in result.arrays["steps"])
    return (
        f"{result_name(result)} lacks ε = {eps_label(column.eps)} at {column.steps} steps; "
        f"it has ε = {eps_values} at {step_counts} steps; evaluate it with both"
    )


def _in_parentheses(published: PublishedValue | None) -> str:
    return f"({published.value:.3f})" if published else ""


def _network_text(row: list[TableCell], label: str) -> CellText:
    """The label of a network with the method under which the paper prints it if that differs."""
    result = row[0].result
    labels = {cell.published.published_as for cell in row if cell.published}
    others = labels - {result.attrs["method"]}
    second_line = "".join(f"printed as {METHODS[label]}" for label in others)
    if result.attrs["kind"] == "certify" and row[0].metric == "accuracy":
        second_line = "by the search for proofs"
    return CellText(label, second_line=second_line)


def _mean_and_spread(cells: Sequence[TableCell]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds."""
    values = [cell.value for cell in cells]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _mean_text(cells: Sequence[TableCell]) -> CellText:
    mean, spread = _mean_and_spread(cells)
    published = _in_parentheses(cells[0].published)
    if math.isnan(mean):
        return CellText("–", published)
    return CellText(f"{mean:z.3f}", published, f"± {spread:.3f}")


def _mean_record(table: str, cells: Sequence[TableCell]) -> Record:
    """The record of a mean over seeds. It has no interval, and `n` is the smallest of theirs."""
    mean, spread = _mean_and_spread(cells)
    extra_means = {
        name: round(float(np.mean([cell.extra_columns[name] for cell in cells])), 6)
        for name in cells[0].extra_columns
    }
    return {
        **cells[0].record(table),
        "run": f"mean of {len(cells)}",
        "value": round(mean, 6),
        "n": min(cell.n for cell in cells),
        "low": None,
        "high": None,
        "spread": round(spread, 6),
        "published_as": "",
        "difference": None,
        "mark": "",
        **extra_means,
        "network_sha256": "",
        "code_hash": "",
    }
