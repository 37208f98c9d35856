"""Rank correlation of maps under an attack against interpretability (protocol C.6-2)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.reports.parts.selection import located
from irpipe.stats import bootstrap

ARRAYS = ("eps", "steps", "tau", "defined", "kept")  # of a result with correlations over radii
FEW = 30  # images; a mean over fewer says little


class Correlation(NamedTuple):
    """Mean Kendall tau-b over the `n` images whose prediction the attack kept, with its 95% bootstrap interval.

    NaN for n = 0. `everything`, in [`lowest`, `highest`]: the mean over all images, tau counting as 0 where the
    prediction changed. `undefined`: images with a constant map, whose tau is not in the one and 0 in the other.
    """

    value: float
    n: int
    low: float
    high: float
    everything: float
    lowest: float
    highest: float
    undefined: int


def lasting(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What an attack leaves of each image's map, `[N, E, S]`: tau where the prediction was and stayed right, else 0."""
    found: np.ndarray = np.where(arrays["correct"] & arrays["kept"], arrays["tau"], 0.0)
    return found


def correlation(result: Result, eps: float, steps: int) -> Correlation | None:
    """Correlation at one radius and step count; None if that was not evaluated."""
    at = located(result, eps, steps)
    if at is None:
        return None
    tau, defined, kept = (result.arrays[key][:, *at] for key in ("tau", "defined", "kept"))
    counted = kept & defined
    held, everything = tau[counted], np.where(counted, tau, 0.0)
    value = float(held.mean()) if len(held) else np.nan
    whole = (float(everything.mean()), *bootstrap(everything))
    return Correlation(value, len(held), *bootstrap(held), *whole, int((~defined).sum()))
