"""The table compares Kendall's rank correlation between the maps of clean and adversarial images,
under an attack against interpretability, with the published one (Tables 2, A4 and A5 of the paper).
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from irpipe.analysis.columns import Column, columns_by_eps, published_value
from irpipe.errors import IrpipeError
from irpipe.published import PublishedKey, PublishedValue, published_table
from irpipe.reports._cells import (
    ROUNDING_TOLERANCE,
    TableCell,
    mark_of,
    missing_column_message,
    sub_table,
)
from irpipe.reports._render import TablePage, legend, write
from irpipe.results import to_frame
from irpipe.results.frame import rank_correlation_in
from irpipe.results.labels import counted, dataset_model_label
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL, TAU_ARRAYS, RankCorrelation
from irpipe.results.result import Result
from irpipe.results.select import select_attack

MARK_ABOVE = 0.005
DOUBLE_MARK_ABOVE = 0.010
LEGEND = (
    (
        "",
        "Each cell shows the mean of Kendall's tau-b between the true class's clean and "
        "adversarial map, over the n images with the prediction kept, and its 95% bootstrap "
        "interval in brackets. all: the mean over all images, with lost images counted as 0. Lost "
        "are those whose prediction the attack changed, or whose map is constant.",
    ),
    (
        "†",
        f"† marks an interval of fewer than {MIN_N_FOR_INTERVAL} images, which says little.",
    ),
    ("(", "The published value stands in parentheses."),
    ("*", f"* marks a mean that differs from it by more than {MARK_ABOVE:.3f}."),
    ("**", f"** marks a mean that differs from it by more than {DOUBLE_MARK_ABOVE:.3f}."),
    ("±", "± gives the standard deviation over seeds."),
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "aai",
    published: Literal["2", "A4", "A5"] | None = None,
) -> list[Path]:
    """Write the table with one row per network; return the paths of its files.

    The columns are the eps of the `published` table for a data set and model or, if it has none,
    those of the results up to the eps of training. Records also have the mean over all images with
    its interval (`all`, `all_low`, `all_high`) and the number of images whose tau is not defined
    (`undefined`).

    Raises IrpipeError as `select_attack` does, and if a result lacks a column.
    """
    published_values = published_table(published) if published else {}
    subtables, frames = [], []
    for pair, group in select_attack(results, attack, output.name, TAU_ARRAYS).items():
        options = group[0].attrs["options"]
        steps = options["steps"]
        attack_name = f"aai_{options['interpreter']}"
        columns = columns_by_eps(pair, group, steps, published_values, attack_name)
        rows = [_row(output.name, result, columns, published_values) for result in group]
        heading = (
            f"{dataset_model_label(pair)}, {counted(steps, 'step')}, {options['images']} images"
        )
        subtable, frame = sub_table(output.name, heading, columns, rows)
        subtables.append(subtable)
        frames.append(frame)
    page = TablePage(title, subtables, legend(LEGEND, subtables))
    return write(output, page, pd.concat(frames, ignore_index=True))


def _row(
    table: str,
    result: Result,
    columns: list[Column],
    published: dict[PublishedKey, PublishedValue],
) -> list[TableCell]:
    """The rank correlations of one network, each with what the paper prints."""
    frame = to_frame(result)
    cells = []
    for column in columns:
        measured = rank_correlation_in(frame, column.eps, column.steps)
        if measured is None:
            raise IrpipeError(f"{table}: {missing_column_message(result, column)}")
        cells.append(_cell(result, column, measured, published_value(published, result, column)))
    return cells


def _cell(
    result: Result,
    column: Column,
    measured: RankCorrelation,
    reference: PublishedValue | None,
) -> TableCell:
    difference = abs(measured.value - reference.value) if reference else 0.0
    dagger = "†" if measured.n < MIN_N_FOR_INTERVAL else ""
    return TableCell(
        result,
        column,
        measured.value,
        measured.n,
        measured.low,
        measured.high,
        reference,
        mark=mark_of(difference - ROUNDING_TOLERANCE, MARK_ABOVE, DOUBLE_MARK_ABOVE),
        metric="kendall_tau",
        digits=3,
        note=f"n = {measured.n}{dagger}, all {measured.value_all:z.3f}",
        extra_columns={
            "all": measured.value_all,
            "all_low": measured.low_all,
            "all_high": measured.high_all,
            "undefined": measured.n_undefined,
        },
    )
