"""The table compares adversarial test accuracies with the published ones (Tables 3, 4 and A1 to A3
of the paper), with one column for each eps or number of attack steps. Where there are proofs, it
also shows which accuracy is certain.
"""

import math
from pathlib import Path
from typing import Literal

import pandas as pd

from irpipe.analysis.bracket import bracket
from irpipe.analysis.columns import Column, columns_by_eps, published_value
from irpipe.errors import IrpipeError
from irpipe.option_types import Count, Names
from irpipe.published import PublishedKey, PublishedValue, published_table
from irpipe.reports._cells import TableCell, accuracy_cell, missing_column_message, sub_table
from irpipe.reports._render import TablePage, legend, write
from irpipe.results import to_frame
from irpipe.results.accuracy import Accuracy
from irpipe.results.frame import accuracy_in
from irpipe.results.labels import (
    EPS_TOLERANCE,
    DatasetModel,
    counted,
    dataset_model_label,
    eps_label,
)
from irpipe.results.result import Result
from irpipe.results.select import select_with_proofs

LEGEND = (
    (
        "",
        "Each cell shows the accuracy on the n attacked test images, and its 95% Wilson interval "
        "in brackets.",
    ),
    ("(", "The published value stands in parentheses."),
    ("*", "* marks an accuracy that differs from the published value by one image."),
    ("**", "** marks one that differs by more images."),
    ("±", "± gives the standard deviation over seeds."),
)
PROOFS_LEGEND = (
    "",
    "An image is certified if a proof says that no attack within ε can break it. It is undecided "
    "if it is not certified, and neither this attack nor the search for proofs has broken it. So "
    "the accuracy of these images under the strongest attack that can exist lies between certified "
    "and the sum of certified and undecided.",
)

NO_IMAGES = Accuracy(math.nan, 0, math.nan, math.nan)
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
    certify: Names | None = None,
) -> list[Path]:
    """Write the table with one row per network; return the paths of its files.

    The columns are the eps of the `published` table at `steps` steps or, for the sweep "steps",
    its step counts at the eps of training. For a data set and model that it does not have, they
    are those of the results, with eps up to that of training.

    A network with proofs has two rows more: the shares of certified and of undecided images. If
    there is no result of `attack` for it, the search for proofs is the attack. `certify` names the
    attacks whose results have proofs, and leaves out networks without; None means all of kind
    `certify`, and leaves out none.

    Raises IrpipeError as `select_with_proofs` and `bracket` do, and if a result lacks a column.
    """
    published_values = published_table(published) if published else {}
    subtables, frames = [], []
    sentences: tuple[tuple[str, str], ...] = LEGEND
    for pair, networks in select_with_proofs(results, attack, certify, output.name).items():
        group = [result for result, _ in networks]
        if sweep == "eps":
            columns = columns_by_eps(pair, group, steps, published_values)
        else:
            columns = _columns_by_steps(pair, group, published_values)
        rows = []
        for result, proofs in networks:
            rows.append(_accuracy_row(output.name, result, columns, published_values))
            if proofs:
                rows += _proof_rows(output.name, result, proofs, columns)
                sentences = (*LEGEND, PROOFS_LEGEND)
        subtable, frame = sub_table(output.name, _heading(pair, sweep, rows), columns, rows)
        subtables.append(subtable)
        frames.append(frame)
    page = TablePage(title, subtables, legend(sentences, subtables))
    return write(output, page, pd.concat(frames, ignore_index=True))


def _accuracy_row(
    table: str, result: Result, columns: list[Column], published: Published
) -> list[TableCell]:
    """The accuracies of one network, each with what the paper prints."""
    cells = []
    frame = to_frame(result)
    for column in _own_columns(result, columns):
        measured = accuracy_in(frame, column.eps, column.steps)
        if measured is None:
            message = missing_column_message(result, column)
            raise IrpipeError(f"{table}: {message}, or name another step count as its steps")
        value = published_value(published, result, column)
        cells.append(accuracy_cell(result, column, measured, value))
    return cells


def _proof_rows(
    table: str, result: Result, proofs: Result, columns: list[Column]
) -> list[list[TableCell]]:
    """Two rows: the certified images of a network, and those undecided under the result's attack.

    Cells at an eps at which nothing was proven are a mean over no image.
    """
    brackets = [
        bracket(result, proofs, column.eps, column.steps, table)
        for column in _own_columns(result, columns)
    ]
    own = _own_columns(proofs, columns)
    rows = []
    for metric, index in (("certified", 0), ("undecided", 1)):
        shares = [found[index] if found else NO_IMAGES for found in brackets]
        rows.append(
            [
                TableCell(proofs, column, *share, None, metric=metric)
                for column, share in zip(own, shares, strict=True)
            ]
        )
    return rows


def _own_columns(result: Result, columns: list[Column]) -> list[Column]:
    """The columns at the step counts of a result: proofs have their number of leaves instead."""
    if result.attrs["kind"] != "certify":
        return columns
    leaves = int(result.arrays["steps"][0])
    return [column._replace(steps=leaves, attack="certify") for column in columns]


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
        attacked = [result for result in group if result.attrs["kind"] != "certify"] or group
        step_counts = {int(count) for result in attacked for count in result.arrays["steps"]}
    return [Column(counted(count, "step"), train_eps, count) for count in sorted(step_counts)]


def _heading(pair: DatasetModel, sweep: str, rows: list[list[TableCell]]) -> str:
    by_attack = [row[0].column for row in rows if row[0].column.attack != "certify"]
    column = (by_attack or [rows[0][0].column])[0]
    fixed = f"ε = {eps_label(column.eps)}"
    if sweep == "eps":
        nouns = ("leaf", "leaves") if column.attack == "certify" else ("step",)
        fixed = counted(column.steps, *nouns)
    n_images = sorted({cell.n for row in rows for cell in row} - {0})
    return f"{dataset_model_label(pair)}, {fixed}, n = {' or '.join(map(str, n_images))}"
