"""Errata of the PGD tables: row labels, cells with two numbers, attacks that are too short."""

import numpy as np

from irpipe.analysis.errata import ErratumRow, NetworkKey, erratum_row, released_results
from irpipe.published import METHODS, PublishedKey, published_table
from irpipe.results.accuracy import Accuracy, accuracy
from irpipe.results.labels import EPS_TOLERANCE, DatasetModel, counted, eps_label
from irpipe.results.result import Result

STEPS_OF_RELABELLED_TABLE = {"A1": 200, "A2": 100}


def find_errata(groups: dict[DatasetModel, list[Result]]) -> list[ErratumRow]:
    """Find what C.6-1, C.4 P5 and C.4 P2 say on the PGD tables.

    - the row labels of Tables A1 and A2 (C.6-1), from released networks;
    - the cells that Tables 3 and 4 print differently (C.4 P5), all of them, next to what
      released networks give;
    - the distance that each number of steps reached (C.4 P2), from all networks.
    """
    results = released_results(groups)
    return [*_label_rows(results), *_two_number_rows(results), *_reach_rows(groups)]


def _label_rows(results: dict[NetworkKey, Result]) -> list[ErratumRow]:
    """Which published row of Tables A1 and A2 each CIFAR-10 Small network matches best."""
    rows: list[ErratumRow] = []
    for table, steps in STEPS_OF_RELABELLED_TABLE.items():
        # For each label as printed, the accuracy at each eps.
        printed_rows: dict[str, dict[float, float]] = {label: {} for label in METHODS}
        corrected_labels: dict[str, str] = {}
        for key, published in published_table(table).items():
            if key[:2] == ("cifar10", "small"):
                assert key.eps is not None  # these tables print it
                printed_rows[published.published_as][key.eps] = published.value
                corrected_labels[key.method] = published.published_as
        for method in METHODS:
            result = results.get(("cifar10", "small", method))
            measured = _accuracies(result, list(printed_rows[method]), steps) if result else []
            if measured:
                corrected_label = corrected_labels[method]
                note = _label_note(method, corrected_label, measured, printed_rows)
                rows.append(
                    erratum_row(
                        "Row labels",
                        "C.6-1",
                        ("cifar10", "small"),
                        f"row {METHODS[method]} of Table {table}",
                        _three_decimals(list(printed_rows[method].values())),
                        _three_decimals(measured),
                        note,
                    )
                )
    return rows


def _accuracies(result: Result, eps_list: list[float], steps: int) -> list[float]:
    """The accuracy at each eps; empty if one of them was not evaluated."""
    accuracies = [accuracy(result, eps, steps) for eps in eps_list]
    values = [item.value for item in accuracies if item]
    return values if len(values) == len(eps_list) else []


def _three_decimals(numbers: list[float]) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


def _label_note(
    method: str,
    corrected_label: str,
    measured: list[float],
    printed_rows: dict[str, dict[float, float]],
) -> str:
    """Which printed row the measured accuracies match, and whether the correction agrees."""
    differences = {
        label: float(np.abs(np.subtract(measured, list(row.values()))).mean())
        for label, row in printed_rows.items()
    }
    best = min(differences, key=lambda label: differences[label])
    note = f"matches the row printed {METHODS[best]} (mean difference {differences[best]:.4f}"
    if best != method:
        note += f"; the row printed {METHODS[method]}: {differences[method]:.4f}"
    note += ")"
    if best != corrected_label:
        note += f"; the correction says {METHODS[corrected_label]}"
    return note


def _two_number_rows(results: dict[NetworkKey, Result]) -> list[ErratumRow]:
    """Cells that Tables 3 and 4 both print, with different numbers."""
    rows: list[ErratumRow] = []
    table3 = published_table("3")
    table4 = published_table("4")
    for key in table3:
        if key in table4 and table3[key].value != table4[key].value:
            result = results.get(key[:3])
            assert key.eps is not None and key.steps is not None  # both tables print both
            measured = accuracy(result, key.eps, key.steps) if result else None
            rows.append(_two_number_row(key, table3[key].value, table4[key].value, measured))
    return rows


def _two_number_row(
    key: PublishedKey, in_table3: float, in_table4: float, measured: Accuracy | None
) -> ErratumRow:
    if measured is None:
        note = "no result of this network"
    else:
        gap = abs(measured.value - in_table3) - abs(measured.value - in_table4)
        nearer = 3 if gap < 0 else 4
        note = f"Table {nearer} is nearer" if abs(gap) >= EPS_TOLERANCE else "both equally near"
    return erratum_row(
        "One cell, two numbers",
        "C.4 P5",
        key[:2],
        f"{METHODS[key.method]}, {key.steps} steps, ε = {eps_label(key.eps or 0)}",
        f"{in_table3:.3f} (Table 3), {in_table4:.3f} (Table 4)",
        f"{measured.value:.3f}" if measured else "",
        note,
    )


def _reach_rows(groups: dict[DatasetModel, list[Result]]) -> list[ErratumRow]:
    """How far each number of steps moved an image, compared with the eps of training.

    Only for attacks with a fixed step size and no random start.
    """
    rows: list[ErratumRow] = []
    for dataset_model, group in groups.items():
        options = group[0].attrs["options"]
        train_eps = group[0].attrs["train_eps"]
        if options.get("step_size_factor") or options.get("random_start"):
            continue
        for steps, distance in sorted(_largest_distances(group, train_eps).items()):
            bound = steps * options["step_size"]
            note = f"{steps} x {options['step_size']:g} = {bound:.4g}: "
            if bound > train_eps - EPS_TOLERANCE:
                note += "can reach ε"
            else:
                note += f"cannot reach ε, tests {eps_label(bound)} at most"
            rows.append(
                erratum_row(
                    "Reach",
                    "C.4 P2",
                    dataset_model,
                    f"reach of {counted(steps, 'step')}",
                    f"ε = {eps_label(train_eps)}",
                    eps_label(distance),
                    note,
                )
            )
    return rows


def _largest_distances(results: list[Result], eps: float) -> dict[int, float]:
    """Step count -> the largest l-inf distance of any image in any result at `eps`."""
    largest: dict[int, float] = {}
    for result in results:
        for eps_index in np.flatnonzero(np.abs(result.arrays["eps"] - eps) < EPS_TOLERANCE):
            for steps_index, steps in enumerate(result.arrays["steps"].tolist()):
                distances = result.arrays["linf_distance"][:, eps_index, steps_index]
                largest[steps] = max(largest.get(steps, 0.0), float(distances.max()))
    return largest
