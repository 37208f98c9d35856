"""The table shows how much of each image's explanation survives attacks against interpretability:
under each attack, and under the worst one for each image.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from irpipe.analysis.columns import Column
from irpipe.analysis.paired import require_same_images
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.reports._cells import TableCell, sub_table
from irpipe.reports._render import SubTable, TablePage, write
from irpipe.results.accuracy import eps_step_indices
from irpipe.results.labels import DatasetModel, dataset_model_label, eps_label, result_name
from irpipe.results.rank_correlation import TAU_ARRAYS, robust_tau
from irpipe.results.result import Result
from irpipe.results.select import select_attacks
from irpipe.statistics import bootstrap

LEGEND = (
    "Each cell shows Kendall's tau-b between the true class's map of the clean and of the "
    "adversarial image, at the data set's eps. It is the mean over all images, with lost images "
    "counted as 0, with its 95% bootstrap interval. Lost are, here, also the images that are "
    "misclassified. worst: the mean of the least tau that any of the attacks leaves of each image."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["aai_topk", "aai_mass_center", "aai_two_class", "aai_targeted"],  # noqa: B006
) -> list[Path]:
    """Write one table per interpreter with one row per network; return the paths of its files.

    Records also have the share of images with tau 0 (`lost`).

    Raises IrpipeError as `select_attacks` does, if two results of a network are of other images,
    and if a result lacks the data set's eps or a network an attack that another one has.
    """
    subtables, frames = [], []
    arrays = (*TAU_ARRAYS, "correct", "linf_distance", "indices")
    for pair, networks in select_attacks(
        results, attacks, output.name, arrays, partly=True
    ).items():
        interpreters = dict.fromkeys(_interpreter(result) for group in networks for result in group)
        for interpreter in interpreters:
            subtable, frame = _interpreter_table(output.name, pair, networks, interpreter)
            subtables.append(subtable)
            frames.append(frame)
    return write(output, TablePage(title, subtables, LEGEND), pd.concat(frames, ignore_index=True))


def _interpreter(result: Result) -> str:
    return str(result.attrs["options"]["interpreter"])


def _interpreter_table(
    table: str, pair: DatasetModel, networks: list[list[Result]], interpreter: str
) -> tuple[SubTable, pd.DataFrame]:
    """The table of the attacks on one interpreter's maps."""
    rows = []
    for group in networks:
        on_interpreter = [result for result in group if _interpreter(result) == interpreter]
        if on_interpreter:
            rows.append(_row(on_interpreter, table))
    columns = [cell.column for cell in max(rows, key=len)]
    for row in rows:
        row_columns = [cell.column for cell in row]
        missing = [column.title for column in columns if column not in row_columns]
        if missing:
            raise IrpipeError(
                f"{table}: found {result_name(row[0].result)}, "
                f"but no result of '{missing[0]}' on this network"
            )
    label = dataset_model_label(pair)
    heading = f"{label}, {interpreter}, ε = {eps_label(columns[0].eps)}, n = {rows[0][0].n}"
    return sub_table(table, heading, columns, rows)


def _row(results: list[Result], report: str) -> list[TableCell]:
    """One cell for each attack on a network, and one for the worst attack on each image."""
    eps = results[0].attrs["train_eps"]
    cells, taus = [], []
    for result in results:
        require_same_images(results[0], result, report)
        steps = int(result.arrays["steps"].max())
        indices = eps_step_indices(result, eps, steps)
        if indices is None:
            raise IrpipeError(
                f"{report}: {result_name(result)} lacks ε = {eps_label(eps)}; evaluate it with that"
            )
        tau = robust_tau(result.arrays)[:, *indices]
        taus.append(tau)
        cells.append(_cell(result, Column(result.attrs["attack"], eps, steps), tau))
    worst = Result(results[0].attrs | {"attack": "worst"}, {})
    worst_column = Column("worst", eps, cells[0].column.steps)
    return [*cells, _cell(worst, worst_column, np.min(taus, axis=0))]


def _cell(result: Result, column: Column, tau: np.ndarray) -> TableCell:
    """A cell with the mean of `tau` `[N]`."""
    low, high = bootstrap(tau)
    return TableCell(
        result,
        column,
        value=float(tau.mean()),
        n=len(tau),
        low=low,
        high=high,
        published=None,
        metric="kendall_tau",
        digits=3,
        extra_columns={"lost": float((tau == 0).mean())},
    )
