"""The table compares adversarial test accuracies with the published ones (Tables 3, 4 and A1 to A3
of the paper), with one column for each eps or number of attack steps.
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from irpipe.analysis.columns import Column, columns_by_eps, published_value
from irpipe.errors import IrpipeError
from irpipe.option_types import Count
from irpipe.published import PublishedKey, PublishedValue, published_table
from irpipe.reports._cells import TableCell, accuracy_cell, missing_column_message, sub_table
from irpipe.reports._render import TablePage, write
from irpipe.results.accuracy import accuracy
from irpipe.results.labels import EPS_TOLERANCE, DatasetModel, dataset_model_label, eps_label
from irpipe.results.result import Result
from irpipe.results.select import select_attack

LEGEND = (
    "Each cell shows the accuracy on the n attacked test images, its 95% Wilson interval in "
    "brackets, and the published value in parentheses. * marks an accuracy that differs from the "
    "published value by one image, ** by more. ± gives the standard deviation over seeds."
)

Published = dict[PublishedKey, PublishedValue]


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    sweep: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
    published: Literal["3", "4", "A1", "A2", "A3"] | None = None,
) -> list[Path]:
    """Write the table with one row per network; return the paths of its files.

    The columns are the eps of the `published` table at `steps` steps or, for the sweep "steps",
    its step counts at the eps of training. For a data set and model that it does not have, they
    are those of the results, with eps up to that of training.

    Raises IrpipeError as `select_attack` does, and if a result lacks a column.
    """
    published_values = published_table(published) if published else {}
    subtables, frames = [], []
    for pair, group in select_attack(results, attack, output.name).items():
        if sweep == "eps":
            columns = columns_by_eps(pair, group, steps, published_values)
        else:
            columns = _columns_by_steps(pair, group, published_values)
        rows = [
            [_cell(output.name, result, column, published_values) for column in columns]
            for result in group
        ]
        subtable, frame = sub_table(output.name, _heading(pair, sweep, rows), columns, rows)
        subtables.append(subtable)
        frames.append(frame)
    return write(output, TablePage(title, subtables, LEGEND), pd.concat(frames, ignore_index=True))


def _cell(table: str, result: Result, column: Column, published: Published) -> TableCell:
    measured = accuracy(result, column.eps, column.steps)
    if measured is None:
        raise IrpipeError(f"{table}: {missing_column_message(result, column)}")
    return accuracy_cell(result, column, measured, published_value(published, result, column))


def _columns_by_steps(
    pair: DatasetModel, group: list[Result], published: Published
) -> list[Column]:
    """Columns at the eps of training: the published step counts or, if none, the results' own."""
    train_eps = group[0].attrs["train_eps"]
    step_counts = {
        key.steps
        for key in published
        if (key.dataset, key.model) == pair
        and key.steps is not None
        and key.eps is not None
        and abs(key.eps - train_eps) < EPS_TOLERANCE
    }
    if not step_counts:
        step_counts = {int(count) for result in group for count in result.arrays["steps"]}
    return [
        Column(f"{count} step{'s' * (count > 1)}", train_eps, count)
        for count in sorted(step_counts)
    ]


def _heading(pair: DatasetModel, sweep: str, rows: list[list[TableCell]]) -> str:
    column = rows[0][0].column
    fixed = f"{column.steps} steps" if sweep == "eps" else f"ε = {eps_label(column.eps)}"
    n_images = sorted({cell.n for row in rows for cell in row})
    return f"{dataset_model_label(pair)}, {fixed}, n = {' or '.join(map(str, n_images))}"
