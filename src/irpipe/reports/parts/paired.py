"""Two networks, or two attacks, on the same test images: how far apart, and whether that can be chance."""

from typing import NamedTuple

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.reports.parts.selection import correct, eps_label, name
from irpipe.stats import mcnemar, paired


class Difference(NamedTuple):
    """One accuracy minus another on `n` shared images, with its 95% interval and exact McNemar p-value.

    `only_first` and `only_second` count the images that just the one or the other has right.
    """

    value: float
    low: float
    high: float
    n: int
    only_first: int
    only_second: int
    p: float


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Of two accuracies, given by which images `[N]` each has right."""
    ours, theirs, n = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    return Difference((ours - theirs) / n, *paired(ours, theirs, n), n, ours, theirs, mcnemar(ours, theirs))


def compare(first: Result, second: Result, eps: float, steps: int, report: str) -> Difference:
    """Of two results at one radius and step count; raises IrpipeError, naming `report`, if one lacks it."""
    return difference(right(first, eps, steps, report), right(second, eps, steps, report))


def right(result: Result, eps: float, steps: int, report: str) -> np.ndarray:
    """Which images are right, `[N]`; raises IrpipeError, naming `report`, if that was not evaluated."""
    found = correct(result, eps, steps)
    if found is None:
        raise IrpipeError(
            f"{report}: {name(result)} lacks ε = {eps_label(eps)} at {steps} steps; evaluate it with both"
        )
    return found


def same_images(first: Result, second: Result, report: str) -> None:
    """Raise IrpipeError, naming `report`, unless two results are of the same images in the same order."""
    if not np.array_equal(first.arrays["index"], second.arrays["index"]):
        raise IrpipeError(f"{report}: {name(first)} and {name(second)} are of other images; evaluate both on the same")
