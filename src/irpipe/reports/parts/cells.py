"""Cells of a table: each number beside the published one, as an entry for people and as a record for machines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.published import METHODS, Cell, Printed
from irpipe.reports.parts.render import Block, Entry
from irpipe.reports.parts.selection import SAME, Pair, Rate, eps_label, method, name

Record = dict[str, object]


class Column(NamedTuple):
    """What a column shows: a radius, a step count and an attack, by its name in `published.csv`, under a title."""

    title: str
    eps: float
    steps: int
    attack: str = "pgd"


@dataclass(frozen=True)
class Measured:
    """One number of a table: a mean over `n` images, its 95% interval, and what the paper prints in its place.

    `mark`: how far the two differ ("", "*" or "**"); `digits`: the interval's, behind the point; `note`: what follows
    it; `more`: further numbers of the record, by key.
    """

    result: Result
    column: Column
    value: float
    n: int
    low: float
    high: float
    printed: Printed | None
    mark: str = ""
    metric: str = "accuracy"
    digits: int = 2
    note: str = ""
    more: Mapping[str, float] = field(default_factory=dict)

    def entry(self) -> Entry:
        """The number for people; a dash where it is a mean over nothing."""
        text, interval = "–", ""
        if self.n:
            low, high = (f"{end:z.{self.digits}f}" for end in (self.low, self.high))
            text, interval = f"{self.value:z.3f}", f"[{low}, {high}]"
        return Entry(text, _aside(self.printed), " ".join(filter(None, (interval, self.note))), self.mark)

    def record(self, table: str) -> Record:
        """The number for machines."""
        attrs, printed = self.result.attrs, self.printed
        difference = round(self.value - printed.value, 6) + 0.0 if printed else ""  # + 0.0: no "-0.0"
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
            "spread": "",
            "published": printed.value if printed else "",
            "printed_as": printed.label if printed else "",
            "difference": difference,
            "mark": self.mark,
            **{key: round(value, 6) for key, value in self.more.items()},
            "network_sha256": attrs["network_sha256"],
            "code": attrs["code"],
        }


def over_radii(
    pair: Pair, members: list[Result], steps: int, printed: Mapping[Cell, Printed], attack: str = "pgd"
) -> list[Column]:
    """Columns of a table over radii: those printed for this pair, attack and step count, else those of its results.

    Of the latter, the radii up to the training radius; never none.
    """
    radius = members[0].attrs["nominal_radius"]
    found = {cell.eps for cell in printed if cell[:2] == pair and (cell.attack, cell.steps) == (attack, steps)}
    radii = {eps for eps in found if eps is not None}
    radii = radii or {float(eps) for result in members for eps in result.arrays["eps"] if eps < radius + SAME}
    return [Column(f"ε = {eps_label(eps)}", eps, steps, attack) for eps in sorted(radii or {radius})]


def beside(printed: Mapping[Cell, Printed], result: Result, column: Column) -> Printed | None:
    """What the paper prints for a result's network in a column; a number printed without a radius is at any."""
    network = tuple(result.attrs[key] for key in ("dataset", "model", "method"))
    for cell, value in printed.items():
        same = cell[:3] == network and (cell.attack, cell.steps) == (column.attack, column.steps)
        if same and (cell.eps is None or abs(cell.eps - column.eps) < SAME):
            return value
    return None


def accuracy(result: Result, column: Column, ours: Rate, printed: Printed | None) -> Measured:
    """An accuracy, marked if it differs from the printed one by half an image to one, or by more."""
    difference = abs(ours.value - printed.value) if printed else 0.0
    mark = "" if difference < 0.5 / ours.n else "*" if difference <= 1 / ours.n + SAME else "**"
    return Measured(result, column, *ours, printed, mark)


def block(table: str, heading: str, columns: list[Column], rows: list[list[Measured]]) -> tuple[Block, list[Record]]:
    """Rows of cells, one network each, as a block and as records of the table.

    A method trained from several seeds gets one more row: the mean over them and their standard deviation.
    """
    shown = [[_label(row), *(cell.entry() for cell in row)] for row in rows]
    records = [cell.record(table) for row in rows for cell in row]
    seeds: dict[str, list[list[Measured]]] = {}
    for row in rows:
        if row[0].result.attrs["run"] != "released":
            seeds.setdefault(row[0].result.attrs["method"], []).append(row)
    for same in seeds.values():
        if len(same) > 1:
            means = [_mean(table, cells) for cells in zip(*same, strict=True)]
            label = Entry(_plain(same[0]), below=f"mean of {len(same)} seeds")
            shown.append([label, *(entry for entry, _ in means)])
            records += [record for _, record in means]
    return Block(heading, ["Method", *(column.title for column in columns)], shown), records


def lacks(result: Result, column: Column) -> str:
    """The complaint that a result does not hold a column."""
    radii = ", ".join(eps_label(float(eps)) for eps in result.arrays["eps"])
    steps = ", ".join(str(count) for count in result.arrays["steps"])
    wanted = f"ε = {eps_label(column.eps)} at {column.steps} steps"
    return f"{name(result)} lacks {wanted}; it has ε = {radii} at {steps} steps; evaluate it with both"


def _aside(printed: Printed | None) -> str:
    return f"({printed.value:.3f})" if printed else ""


def _plain(row: list[Measured]) -> str:
    method_ = str(row[0].result.attrs["method"])
    return METHODS.get(method_, method_)


def _label(row: list[Measured]) -> Entry:
    labels = {cell.printed.label for cell in row if cell.printed} - {row[0].result.attrs["method"]}
    return Entry(method(row[0].result), below="".join(f"printed as {METHODS[label]}" for label in labels))


def _mean(table: str, cells: Sequence[Measured]) -> tuple[Entry, Record]:
    """Mean and sample standard deviation of one column over several seeds; `n` is the least of any."""
    first, values = cells[0], [cell.value for cell in cells]
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    kept = ("table", "dataset", "model", "method", "attack", "eps", "steps", "metric", "published")
    record = {key: value if key in kept else "" for key, value in first.record(table).items()}
    record |= {"run": f"mean of {len(cells)}", "value": round(mean, 6), "spread": round(spread, 6)}
    record |= {"n": min(cell.n for cell in cells)}
    record |= {key: round(float(np.mean([cell.more[key] for cell in cells])), 6) for key in first.more}
    text, below = ("–", "") if math.isnan(mean) else (f"{mean:z.3f}", f"± {spread:.3f}")
    return Entry(text, _aside(first.printed), below), record
