"""The accuracies of two results on the same test images, and whether they differ by chance."""

from typing import NamedTuple

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.results.accuracy import is_correct
from irpipe.results.labels import eps_label, result_name
from irpipe.results.result import Result
from irpipe.statistics import mcnemar, paired_difference_interval

ALPHA = 0.05  # level of all tests and intervals in the reports, for each of them separately


class Difference(NamedTuple):
    """The first accuracy minus the second on the same `n` images.

    `low` to `high` is its 95% interval and `p` the p-value of McNemar's exact test. `only_first`
    and `only_second` count the images that are correct in just one of the two.
    """

    value: float
    low: float
    high: float
    n: int
    only_first: int
    only_second: int
    p: float


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two accuracies from whether each image is correct, bool `[N]` each."""
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    n = len(first)
    low, high = paired_difference_interval(only_first, only_second, n)
    return Difference(
        value=(only_first - only_second) / n,
        low=low,
        high=high,
        n=n,
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
    )


def leaves_fewer(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether fewer images are correct in the first, bool `[N]`, by more than chance.

    By more than chance means that McNemar's test on the same images has p < ALPHA.
    """
    gap = difference(first, second)
    return gap.value < 0 and gap.p < ALPHA


def compare_results(
    first: Result, second: Result, eps: float, steps: int, report: str
) -> Difference:
    """Difference of two results' accuracies at one eps and step count.

    Raises IrpipeError, which names `report`, if one of them was not evaluated there.
    """
    return difference(
        require_correct(first, eps, steps, report), require_correct(second, eps, steps, report)
    )


def require_correct(result: Result, eps: float, steps: int, report: str) -> np.ndarray:
    """Whether each image is classified correctly at one eps and step count, bool `[N]`.

    Raises IrpipeError, which names `report`, if the result was not evaluated there.
    """
    correct = is_correct(result, eps, steps)
    if correct is None:
        raise IrpipeError(
            f"{report}: {result_name(result)} lacks ε = {eps_label(eps)} at {steps} steps; "
            "evaluate it with both, or name another step count as the steps of the report"
        )
    return correct


def require_same_images(first: Result, second: Result, report: str) -> None:
    """Raise IrpipeError, which names `report`, unless both have the same images in one order."""
    if not np.array_equal(first.arrays["indices"], second.arrays["indices"]):
        raise IrpipeError(
            f"{report}: {result_name(first)} and {result_name(second)} are of other images; "
            "evaluate both on the same"
        )
