"""Errata of Table 5: steps that cross the variable's range, NaN iterates, the step of advex-uar."""

import numpy as np

from irpipe.analysis import table5_scoring
from irpipe.analysis.errata import ErratumRow, erratum_row, released_results
from irpipe.published import METHODS, PublishedKey, published_table, table5
from irpipe.results.accuracy import eps_step_indices
from irpipe.results.labels import EPS_TOLERANCE, DatasetModel
from irpipe.results.result import Result


def find_errata(groups: dict[DatasetModel, list[Result]]) -> list[ErratumRow]:
    """Find what C.6-3 says on Table 5, in results of released networks at the table's eps.

    In the table's setting: where the released step leads, and NaN iterates. With the step of
    advex-uar: how far its accuracy is from the published one.
    """
    rows: list[ErratumRow] = []
    for dataset_model, group in groups.items():
        results = {
            network: result
            for network, result in released_results({dataset_model: group}).items()
            if _table_indices(result) is not None
        }
        in_table = [result for result in results.values() if _is_published_setting(result)]
        rows += _step_size_rows(dataset_model, in_table)
        for network, result in results.items():
            options = result.attrs["options"]
            column = table5.column(options)
            key = PublishedKey(*network, column, table5.STEPS, None)
            published = published_table("5").get(key)
            method = network[2]
            cell = f"{METHODS.get(method, method)}, {table5.TITLES[column]}"
            if _is_published_setting(result):
                value = f"{published.value:.3f}" if published else ""
                rows += _nan_rows(dataset_model, cell, value, result)
            elif published and _differs_in_step_rule_only(result):
                rows.append(_advex_uar_row(dataset_model, cell, published.value, result))
    return rows


def _is_published_setting(result: Result) -> bool:
    return table5.is_published_setting(result.attrs["options"])


def _differs_in_step_rule_only(result: Result) -> bool:
    """Whether the result would be in the table's setting under the released step rule."""
    return table5.is_published_setting(result.attrs["options"] | {"step_rule": "released"})


def _table_indices(result: Result) -> tuple[int, int] | None:
    """Indices of the table's eps and step count in a result's arrays; None if it lacks them."""
    column = table5.column(result.attrs["options"])
    return eps_step_indices(result, table5.EPS[column], table5.STEPS)


def _at_table_eps(result: Result, array: str) -> np.ndarray:
    """An array of a result at the table's eps and step count, `[N]`."""
    indices = _table_indices(result)
    assert indices is not None  # find_errata leaves out the results that lack them
    return np.asarray(result.arrays[array][:, *indices])


def _step_size_rows(dataset_model: DatasetModel, results: list[Result]) -> list[ErratumRow]:
    """Where a step that grows with eps leads in a range that does not (U.0)."""
    column = table5.column(results[0].attrs["options"]) if results else ""
    if column not in table5.VARIABLE_RANGES:
        return []
    step_size = table5.EPS[column] / table5.STEPS**0.5
    low, high = table5.VARIABLE_RANGES[column]
    share = np.mean([_at_table_eps(result, "boundary_share") for result in results])
    reach = "crosses it" if step_size >= high - low else "does not cross it"
    return [
        erratum_row(
            "Step size",
            "C.6-3",
            dataset_model,
            table5.TITLES[column],
            f"steps of {step_size:.4g}",
            f"{share:.0%} of the changed entries end at a boundary",
            f"the variable's range is [{low}, {high}]: a step {reach}",
        )
    ]


def _nan_rows(
    dataset_model: DatasetModel, cell: str, published: str, result: Result
) -> list[ErratumRow]:
    """Images whose iterate became NaN, which the released code predicts as class 0 (U.3)."""
    is_nan = _at_table_eps(result, "nan")
    if not is_nan.any():
        return []
    n_class_0 = (is_nan & (result.arrays["label"] == 0)).sum()
    measured = _at_table_eps(result, "correct").mean()
    scored = _at_table_eps(table5_scoring.score_as_released(result), "correct").mean()
    note = f"{is_nan.sum()} of {len(is_nan)} iterates are NaN; "
    note += f"the {n_class_0} of class 0 count as correct: {scored:.3f}"
    return [
        erratum_row(
            "NaN iterates", "C.6-3", dataset_model, cell, published, f"{measured:.3f}", note
        )
    ]


def _advex_uar_row(
    dataset_model: DatasetModel, cell: str, published: float, result: Result
) -> ErratumRow:
    """The accuracy under the step of advex-uar (U.0), and how the published one differs."""
    measured = _at_table_eps(result, "correct").mean()
    difference = published - measured
    if abs(difference) < EPS_TOLERANCE:
        note = "as strong"
    else:
        note = f"{'stronger' if difference > 0 else 'weaker'} by {abs(difference):.3f}"
    return erratum_row(
        "Step of advex-uar",
        "C.6-3",
        dataset_model,
        cell,
        f"{published:.3f}",
        f"{measured:.3f}",
        note,
    )
