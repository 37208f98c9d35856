"""Adversarial test accuracy over radii or step counts, beside the published values (Tables 3, 4, A1-A3)."""

from pathlib import Path
from typing import Literal

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import Cell, Printed, values
from irpipe.quantities import Count
from irpipe.reports.parts.cells import Column, Measured, accuracy, beside, block, lacks, over_radii
from irpipe.reports.parts.render import Page, write
from irpipe.reports.parts.selection import SAME, Pair, eps_label, network, rate, select

LEGEND = (
    "Accuracy on the attacked test images, 95% Wilson interval in brackets, the published value in "
    "parentheses. n: test images. Differs from the published value: * by one image, ** by more. "
    "±: standard deviation over seeds."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    over: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
    published: Literal["3", "4", "A1", "A2", "A3"] | None = None,
) -> list[Path]:
    """Write a table as `output`.csv (one record per cell), .md, .tex and .html; return the four paths.

    A method trained from several seeds gets one more row: the mean over them and their standard deviation.
    Columns are radii up to the training radius at `steps` steps, or step counts at the training radius; where
    the `published` table has such values for a data set and model, they are exactly its columns. Raises
    IrpipeError as `selection.select` does, and if a result lacks a column.
    """
    printed = values(published) if published else {}
    blocks, records = [], []
    for pair, members in select(results, attack, output.name).items():
        columns = over_radii(pair, members, steps, printed) if over == "eps" else _counts(pair, members, printed)
        rows = [[_cell(output.name, result, column, printed) for column in columns] for result in members]
        shown, found = block(output.name, _heading(pair, over, rows), columns, rows)
        blocks.append(shown)
        records += found
    return write(output, Page(title, blocks, LEGEND), records)


def _cell(table: str, result: Result, column: Column, printed: dict[Cell, Printed]) -> Measured:
    ours = rate(result, column.eps, column.steps)
    if ours is None:
        raise IrpipeError(f"{table}: {lacks(result, column)}")
    return accuracy(result, column, ours, beside(printed, result, column))


def _counts(pair: Pair, members: list[Result], printed: dict[Cell, Printed]) -> list[Column]:
    """Step counts of the published table for this pair at the training radius, else those of its results."""
    radius = members[0].attrs["nominal_radius"]
    at_radius = {cell.steps for cell in printed if cell[:2] == pair and abs((cell.eps or 0) - radius) < SAME}
    counts = at_radius or {int(count) for result in members for count in result.arrays["steps"]}
    return [Column(f"{count} step{'s' * (count > 1)}", radius, count) for count in sorted(filter(None, counts))]


def _heading(pair: Pair, over: str, rows: list[list[Measured]]) -> str:
    column = rows[0][0].column
    fixed = f"{column.steps} steps" if over == "eps" else f"ε = {eps_label(column.eps)}"
    counts = " or ".join(str(count) for count in sorted({cell.n for row in rows for cell in row}))
    return f"{network(pair)}, {fixed}, n = {counts}"
