"""What attacks against interpretability leave of each image's explanation, the worst of all of them beside each."""

from pathlib import Path

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.quantities import Names
from irpipe.reports.parts.cells import Column, Measured, block
from irpipe.reports.parts.correlation import ARRAYS, lasting
from irpipe.reports.parts.paired import same_images
from irpipe.reports.parts.render import Page, write
from irpipe.reports.parts.selection import eps_label, located, name, network, together
from irpipe.stats import bootstrap

LEGEND = (
    "Kendall's tau-b between the true class's map of the clean and the attacked image, at the data set's radius: mean "
    "over all images, 0 where the prediction is wrong or changed, with 95% bootstrap intervals. Worst: for each image "
    "the least that any of the attacks leaves."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["aai_topk", "aai_centre", "aai_two_class", "aai_target"],  # noqa: B006 (read, never changed)
) -> list[Path]:
    """Write a row for each network, a block for each interpreter, as `output`.csv, .md, .tex and .html.

    Records carry the share of images that are lost (`lost`). Returns the four paths. Raises IrpipeError as
    `selection.together` does, if two results of a network are of other images, and if one lacks the data set's radius
    or an attack that another network has.
    """
    blocks, records = [], []
    wanted = (*ARRAYS, "correct", "radius", "index")
    for pair, networks in together(results, attacks, output.name, wanted, partly=True).items():
        shown = [result for members in networks for result in members]
        for interpreter in dict.fromkeys(str(result.attrs["spec"]["interpreter"]) for result in shown):
            rows = []
            for members in networks:
                own = [result for result in members if result.attrs["spec"]["interpreter"] == interpreter]
                if own:
                    rows.append(_row(own, output.name))
            columns = [cell.column for cell in max(rows, key=len)]
            for row in rows:
                lacking = [column.title for column in columns if column not in [cell.column for cell in row]]
                if lacking:
                    raise IrpipeError(f"{output.name}: {name(row[0].result)} is there, but no {lacking[0]} beside it")
            heading = f"{network(pair)}, {interpreter}, ε = {eps_label(columns[0].eps)}, n = {rows[0][0].n}"
            made, more = block(output.name, heading, columns, rows)
            blocks.append(made)
            records += more
    return write(output, Page(title, blocks, LEGEND), records)


def _row(results: list[Result], report: str) -> list[Measured]:
    """What each attack leaves of one network's explanations, and the worst of all."""
    radius, left, cells = results[0].attrs["nominal_radius"], [], []
    for result in results:
        same_images(results[0], result, report)
        steps = int(result.arrays["steps"].max())
        at = located(result, radius, steps)
        if at is None:
            raise IrpipeError(f"{report}: {name(result)} lacks ε = {eps_label(radius)}; evaluate it with that")
        left.append(lasting(result.arrays)[:, *at])
        cells.append(_cell(result, Column(result.attrs["attack"], radius, steps), left[-1]))
    worst = Result(results[0].attrs | {"attack": "worst"}, {})
    return [*cells, _cell(worst, Column("worst", radius, cells[0].column.steps), np.min(left, axis=0))]


def _cell(result: Result, column: Column, left: np.ndarray) -> Measured:
    lost = {"lost": float((left == 0).mean())}
    return Measured(
        result, column, float(left.mean()), len(left), *bootstrap(left), None, "", "kendall_tau", 3, "", lost
    )
