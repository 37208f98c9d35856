"""Rank correlation of maps under an attack against interpretability, beside the published (Tables 2, A4, A5)."""

from pathlib import Path
from typing import Literal

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import Cell, Printed, values
from irpipe.reports.parts.cells import Column, Measured, beside, block, lacks, over_radii
from irpipe.reports.parts.correlation import ARRAYS, FEW, correlation
from irpipe.reports.parts.render import Page, write
from irpipe.reports.parts.selection import SAME, network, select

LEGEND = (
    "Mean of Kendall's tau-b between the true class's clean and attacked map, over the n images whose prediction the "
    "attack kept, 95% bootstrap interval in brackets, the published value in parentheses. "
    f"†: n is below {FEW}, too few for an interval. all: the mean over all images, tau counting as 0 where the "
    "prediction changed. Differs from the published value: * by more than 0.005, ** by more than 0.010. "
    "±: standard deviation over seeds."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "aai",
    published: Literal["2", "A4", "A5"] | None = None,
) -> list[Path]:
    """Write a table as `output`.csv (one record per cell), .md, .tex and .html; return the four paths.

    Columns are the radii of the `published` table for a data set and model, else those up to the training radius.
    Records carry the mean over all images (`all`, in [`all_low`, `all_high`]) and the number of images with a constant
    map (`undefined`). A method trained from several seeds gets one more row. Raises IrpipeError as
    `selection.select` does, and if a result lacks a column.
    """
    printed = values(published) if published else {}
    blocks, records = [], []
    for pair, members in select(results, attack, output.name, ARRAYS).items():
        spec = members[0].attrs["spec"]
        columns = over_radii(pair, members, spec["steps"], printed, f"aai_{spec['interpreter']}")
        rows = [[_cell(output.name, result, column, printed) for column in columns] for result in members]
        heading = f"{network(pair)}, {spec['steps']} steps, {spec['images']} images"
        shown, found = block(output.name, heading, columns, rows)
        blocks.append(shown)
        records += found
    return write(output, Page(title, blocks, LEGEND), records)


def _cell(table: str, result: Result, column: Column, printed: dict[Cell, Printed]) -> Measured:
    ours = correlation(result, column.eps, column.steps)
    if ours is None:
        raise IrpipeError(f"{table}: {lacks(result, column)}")
    theirs = beside(printed, result, column)
    apart = abs(ours.value - theirs.value) if theirs else 0.0
    mark = "**" if apart > 0.010 + SAME else "*" if apart > 0.005 + SAME else ""
    note = f"n = {ours.n}{'†' * (ours.n < FEW)}, all {ours.everything:z.3f}"
    more = {"all": ours.everything, "all_low": ours.lowest, "all_high": ours.highest, "undefined": ours.undefined}
    return Measured(result, column, *ours[:4], theirs, mark, "kendall_tau", 3, note, more)
