"""Findings on Table 5: cells that rest on NaN iterates, steps that jump from corner to corner."""

import numpy as np

from irpipe.attacks.parts import table5
from irpipe.errata import Row, finding, released
from irpipe.io import Result
from irpipe.published import METHODS, Cell, values
from irpipe.reports.parts.selection import SAME, Pair, Rate, rate


def rows(chosen: dict[Pair, list[Result]]) -> list[Row]:
    """Steps that jump from corner to corner, NaN iterates, and what upstream's step finds (C.6-3).

    Released networks in Table 5's setting only; the last where the paper prints a number.
    """
    found: list[Row] = []
    for pair, members in chosen.items():
        results = {key: result for key, result in released({pair: members}).items() if _accuracy(result)}
        found += _corners(pair, [one for one in results.values() if table5.as_published(one.attrs["spec"])])
        for key, result in results.items():
            spec = result.attrs["spec"]
            column = table5.column(spec)
            printed = values("5").get(Cell(*key, column, table5.STEPS, None))
            what = f"{METHODS.get(key[2], key[2])}, {table5.TITLES[column]}"
            if table5.as_published(spec):
                found += _nan(pair, what, f"{printed.value:.3f}" if printed else "", result)
            elif printed and table5.as_published(spec | {"step": "code"}):
                found.append(_upstream(pair, what, printed.value, result))
    return found


def _accuracy(result: Result) -> Rate | None:
    """Accuracy at the table's radius, if it is there."""
    return rate(result, table5.RADII[table5.column(result.attrs["spec"])], table5.STEPS)


def _at_radius(result: Result, array: str) -> np.ndarray:
    """An array of a result at the table's radius, `[N]`."""
    place = np.abs(result.arrays["eps"] - table5.RADII[table5.column(result.attrs["spec"])]).argmin()
    return np.asarray(result.arrays[array][:, place, 0])


def _corners(pair: Pair, results: list[Result]) -> list[Row]:
    """Where a step that grows with eps leads in a range that does not."""
    column = table5.column(results[0].attrs["spec"]) if results else ""
    if column not in table5.RANGES:
        return []
    step, (low, high) = table5.RADII[column] / table5.STEPS**0.5, table5.RANGES[column]
    ends = np.mean([_at_radius(result, "corner") for result in results])
    jumps = "every step jumps from corner to corner" if step >= high - low else "no step crosses it"
    ours, note = f"{ends:.0%} of what moved ends in a corner", f"the variable's range is [{low}, {high}]: {jumps}"
    return [finding("Step size", "C.6-3", pair, table5.TITLES[column], f"steps of {step:.4g}", ours, note)]


def _nan(pair: Pair, what: str, printed: str, result: Result) -> list[Row]:
    """Images whose iterate became NaN, which the released code scores as class 0."""
    lost = _at_radius(result, "nan")
    if not lost.any():
        return []
    zero = (lost & (result.arrays["label"] == 0)).sum()
    ours, scored = (_at_radius(one, "correct").mean() for one in (result, table5.as_scored(result)))
    note = f"{lost.sum()} of {len(lost)} iterates are NaN, those {zero} of class 0 count as correct: {scored:.3f}"
    return [finding("NaN iterates", "C.6-3", pair, what, printed, f"{ours:.3f}", note)]


def _upstream(pair: Pair, what: str, printed: float, result: Result) -> Row:
    """The accuracy under upstream's step, beside the one printed."""
    ours = _at_radius(result, "correct").mean()
    gap = printed - ours
    note = "as strong" if abs(gap) < SAME else f"{'stronger' if gap > 0 else 'weaker'} by {abs(gap):.3f}"
    return finding("Upstream's step", "C.6-3", pair, what, f"{printed:.3f}", f"{ours:.3f}", note)
