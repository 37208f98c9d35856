"""The table compares accuracies under unforeseen attacks, which have no l-inf bound, with Table 5
of the paper (protocol C.6-3).
"""

from itertools import permutations
from pathlib import Path

import pandas as pd

from irpipe.analysis.columns import Column, published_value
from irpipe.analysis.table5_scoring import attack_title, score_as_released
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.published import PublishedValue, published_table, table5
from irpipe.reports._cells import ROUNDING_TOLERANCE, TableCell, mark_of, sub_table
from irpipe.reports._render import CellText, SubTable, TablePage, legend, write
from irpipe.results import to_frame
from irpipe.results.accuracy import Accuracy
from irpipe.results.frame import accuracy_in
from irpipe.results.labels import (
    EPS_TOLERANCE,
    dataset_model_label,
    eps_label,
    method_label,
    result_name,
)
from irpipe.results.result import Result
from irpipe.results.select import ACCURACY_ARRAYS, select_attacks

# Two runs of the released code may differ by 0.03, because it seeds one of its two generators.
MARK_ABOVE = 0.03
DOUBLE_MARK_ABOVE = 0.06
LEGEND = (
    (
        "",
        "Each cell shows the accuracy on the n attacked test images, and its 95% Wilson interval "
        "in brackets.",
    ),
    (
        "(",
        "The published value stands in parentheses. The released code seeds one of its two "
        "generators, so its runs differ.",
    ),
    (
        "NaN",
        "An image whose iterate became NaN counts with its last finite iterate. The released code "
        "scored it as class 0; the second line has the accuracy with that score.",
    ),
    (
        "*",
        "* marks an accuracy that, scored like the released code, differs from the published value "
        f"by more than {MARK_ABOVE:.2f}.",
    ),
    ("**", f"** marks one that differs by more than {DOUBLE_MARK_ABOVE:.2f}."),
    ("±", "± gives the standard deviation over seeds."),
    (
        "advex-uar",
        "The released step size is eps / sqrt(steps), although the variables of Gabor, Snow and "
        "Fog have ranges that do not grow with eps; the step size of advex-uar (Kang et al.) is "
        "0.002236.",
    ),
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["gabor", "snow", "jpeg_linf", "jpeg_l2", "jpeg_l1", "fog"],  # noqa: B006
) -> list[Path]:
    """Write the table with one row per network; return the paths of its files.

    It has one column per attack and eps. If attacks differ in nothing but their step rule, a
    second table compares them.

    Raises IrpipeError as `select_attacks` does, and for an attack of a kind that Table 5 lacks.
    """
    subtables, frames = [], []
    arrays = [*ACCURACY_ARRAYS, "nan"]
    for pair, networks in select_attacks(results, attacks, output.name, arrays).items():
        rows = [
            [cell for result in group for cell in _cells(output.name, result)] for group in networks
        ]
        label = dataset_model_label(pair)
        n_images = sorted({cell.n for row in rows for cell in row})
        heading = f"{label}, n = {' or '.join(map(str, n_images))}"
        columns = [cell.column for cell in rows[0]]
        subtable, frame = sub_table(output.name, heading, columns, rows)
        subtables += [subtable, *_compare_step_rules(f"{label}, the stronger step rule", rows)]
        frames.append(frame)
    page = TablePage(title, subtables, legend(LEGEND, subtables))
    return write(output, page, pd.concat(frames, ignore_index=True))


def _cells(table: str, result: Result) -> list[TableCell]:
    """One cell per eps of a result."""
    kind = result.attrs["kind"]
    if kind not in {name.split("_")[0] for name in table5.EPS}:
        raise IrpipeError(
            f"{table}: {result_name(result)} is of kind '{kind}', which Table 5 does not have"
        )
    steps = int(result.arrays["steps"][0])
    eps_values = result.arrays["eps"].tolist()
    frames = to_frame(result), to_frame(score_as_released(result))
    cells = []
    for index, eps in enumerate(eps_values):
        title = attack_title(result)
        if len(eps_values) > 1:
            title += f", ε = {eps_label(eps)}"
        column = Column(title, eps, steps, table5.column(result.attrs["options"]))
        measured, as_released = (accuracy_in(frame, eps, steps) for frame in frames)
        assert measured and as_released  # eps and steps are the result's own
        n_nan = int(result.arrays["nan"][:, index].sum())
        cells.append(_cell(result, column, measured, as_released, n_nan))
    return cells


def _cell(
    result: Result, column: Column, measured: Accuracy, released_score: Accuracy, n_nan: int
) -> TableCell:
    published = _published_value(result, column)
    difference = abs(released_score.value - published.value) if published else 0.0
    return TableCell(
        result,
        column,
        *measured,
        published,
        mark=mark_of(difference - ROUNDING_TOLERANCE, MARK_ABOVE, DOUBLE_MARK_ABOVE),
        note=f"{n_nan} NaN: as class 0 {released_score.value:.3f}" if n_nan else "",
        extra_columns={"nan": n_nan, "as_scored": released_score.value},
    )


def _published_value(result: Result, column: Column) -> PublishedValue | None:
    """The value of Table 5, if the result has the table's options and eps."""
    is_table_eps = abs(column.eps - table5.EPS[column.attack]) < EPS_TOLERANCE
    if not table5.is_published_setting(result.attrs["options"]) or not is_table_eps:
        return None
    return published_value(published_table("5"), result, column)


def _compare_step_rules(heading: str, rows: list[list[TableCell]]) -> list[SubTable]:
    """A table of which step rule is stronger; none if no columns differ in the rule alone."""
    pairs = [
        (first, second)
        for first, second in permutations(range(len(rows[0])), 2)
        if _differ_in_step_rule_only(rows[0][first], rows[0][second])
    ]
    if not pairs:
        return []
    header = ["Method", *(rows[0][first].column.title for first, _ in pairs)]
    results = [row[0].result for row in rows]
    text_rows = [
        [
            CellText(method_label(row[0].result, results)),
            *(_stronger_rule(row[first], row[second]) for first, second in pairs),
        ]
        for row in rows
    ]
    return [SubTable(heading, header, text_rows)]


def _differ_in_step_rule_only(released: TableCell, advex_uar: TableCell) -> bool:
    """Whether two columns have one attack and eps, the first with the released step rule."""
    first = released.result.attrs["options"]
    second = advex_uar.result.attrs["options"]
    return (
        first.get("step_rule") == "released"
        and second == {**first, "step_rule": "advex_uar"}
        and released.column.eps == advex_uar.column.eps
    )


def _stronger_rule(released: TableCell, advex_uar: TableCell) -> CellText:
    gap = released.value - advex_uar.value
    if abs(gap) < ROUNDING_TOLERANCE:
        text = "equal"
    else:
        text = f"{'advex-uar' if gap > 0 else 'released'} by {abs(gap):.3f}"
    return CellText(
        text,
        second_line=f"released {released.value:.3f}, advex-uar {advex_uar.value:.3f}",
    )
