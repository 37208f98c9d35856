"""Findings on the PGD tables: row labels, cells with two numbers, too short attacks."""

import numpy as np

from irpipe.errata import Network, Row, finding, released
from irpipe.io import Result
from irpipe.published import METHODS, Cell, values
from irpipe.reports.parts.selection import SAME, Pair, Rate, eps_label, rate

RELABELLED = {"A1": 200, "A2": 100}  # table: steps


def rows(chosen: dict[Pair, list[Result]]) -> list[Row]:
    """Row labels of Tables A1 and A2 (C.6-1), cells that Tables 3 and 4 print differently (P5), the reach (P2).

    The first two use released networks only. A finding that no result bears on is left out, but disagreements in print
    always stand.
    """
    ours = released(chosen)
    return [*_labels(ours), *_disagreements(ours), *_reach(chosen)]


def _numbers(numbers: list[float]) -> str:
    return " ".join(f"{number:.3f}" for number in numbers)


def _labels(released: dict[Network, Result]) -> list[Row]:
    """Which printed row of Tables A1 and A2 each CIFAR-10 Small network matches best."""
    rows = []
    for table, steps in RELABELLED.items():
        cells = {cell: value for cell, value in values(table).items() if cell[:2] == ("cifar10", "small")}
        printed = {
            label: {cell.eps: value.value for cell, value in cells.items() if value.label == label} for label in METHODS
        }
        correct = {cell.method: value.label for cell, value in cells.items()}
        for method in METHODS:
            result = released.get(("cifar10", "small", method))
            rates = [rate(result, eps, steps) for eps in printed[method] if eps is not None] if result else []
            ours = [found.value for found in rates if found]
            if not ours or len(ours) < len(printed[method]):
                continue
            apart = {label: float(np.abs(np.subtract(ours, [*row.values()])).mean()) for label, row in printed.items()}
            best = min(apart, key=lambda label: apart[label])
            note = f"matches the row printed {METHODS[best]} (mean difference {apart[best]:.4f}"
            note += ")" if best == method else f"; the row printed {METHODS[method]}: {apart[method]:.4f})"
            note += "" if best == correct[method] else f"; the correction says {METHODS[correct[method]]}"
            what = f"row {METHODS[method]} of Table {table}"
            own = _numbers([*printed[method].values()])
            rows.append(finding("Row labels", "C.6-1", ("cifar10", "small"), what, own, _numbers(ours), note))
    return rows


def _disagreements(released: dict[Network, Result]) -> list[Row]:
    """Cells that Tables 3 and 4 both print, with different numbers."""
    rows = []
    third, fourth = values("3"), values("4")
    for cell in (cell for cell in third if cell in fourth):
        first, second = third[cell].value, fourth[cell].value
        if first != second:
            result = released.get(cell[:3])
            assert cell.eps is not None and cell.steps is not None  # both tables print both
            ours = rate(result, cell.eps, cell.steps) if result else None
            rows.append(_disagreement(cell, first, second, ours))
    return rows


def _disagreement(cell: Cell, first: float, second: float, ours: Rate | None) -> Row:
    what = f"{METHODS[cell.method]}, {cell.steps} steps, ε = {eps_label(cell.eps or 0)}"
    note = "no result of this network"
    if ours:
        nearer = abs(ours.value - first) - abs(ours.value - second)
        note = "both equally near" if abs(nearer) < SAME else f"Table {3 if nearer < 0 else 4} is nearer"
    printed = f"{first:.3f} (Table 3), {second:.3f} (Table 4)"
    return finding(
        "One cell, two numbers", "C.4 P5", cell[:2], what, printed, f"{ours.value:.3f}" if ours else "", note
    )


def _reach(chosen: dict[Pair, list[Result]]) -> list[Row]:
    """How far fixed steps from the image itself can move, against the training radius."""
    rows = []
    for pair, members in chosen.items():
        spec, radius = members[0].attrs["spec"], members[0].attrs["nominal_radius"]
        if spec.get("relative") or spec.get("random_start"):
            continue
        moved: dict[int, float] = {}
        for result in members:
            for at in np.flatnonzero(np.abs(result.arrays["eps"] - radius) < SAME):
                for k, count in enumerate(result.arrays["steps"].tolist()):
                    moved[count] = max(moved.get(count, 0.0), float(result.arrays["radius"][:, at, k].max()))
        for count, measured in sorted(moved.items()):
            bound = count * spec["step_size"]
            note = f"{count} x {spec['step_size']:g} = {bound:.4g}: "
            note += "can reach ε" if bound > radius - SAME else f"cannot reach ε, tests {eps_label(bound)} at most"
            what = f"reach of {count} step{'s' * (count > 1)}"
            rows.append(finding("Reach", "C.4 P2", pair, what, f"ε = {eps_label(radius)}", eps_label(measured), note))
    return rows
