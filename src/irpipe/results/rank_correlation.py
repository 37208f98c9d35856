"""Kendall's tau-b of a result's maps at one eps and step count, with its interval (C.6-2, D.5)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from irpipe.results.accuracy import eps_step_indices
from irpipe.results.result import Result
from irpipe.statistics import bootstrap

# What a result with rank correlations must have.
TAU_ARRAYS = ("eps", "steps", "kendall_tau", "tau_defined", "prediction_unchanged")
MIN_N_FOR_INTERVAL = 30  # images; an interval of a mean over fewer says little


class RankCorrelation(NamedTuple):
    """Mean of Kendall's tau-b over images, in two ways, each with its 95% bootstrap interval.

    - `value` in [`low`, `high`]: over the `n` images whose prediction the attack did not change
      and whose tau is defined (C.6-2); NaN for n = 0.
    - `value_all` in [`low_all`, `high_all`]: over all images; tau counts as 0 for the others.

    `n_undefined` counts the images whose tau is not defined, because a map is constant.
    """

    value: float
    n: int
    low: float
    high: float
    value_all: float
    low_all: float
    high_all: float
    n_undefined: int


def rank_correlation(result: Result, eps: float, steps: int) -> RankCorrelation | None:
    """Mean tau-b at one eps and step count; None means that the result was not evaluated there."""
    indices = eps_step_indices(result, eps, steps)
    return None if indices is None else rank_correlation_at(result.arrays, *indices)


def rank_correlation_at(
    arrays: Mapping[str, np.ndarray], eps_index: int, step_index: int
) -> RankCorrelation:
    """Mean tau-b at these indices of the axes E and S of a result's `arrays`."""
    tau = arrays["kendall_tau"][:, eps_index, step_index]
    is_defined = arrays["tau_defined"][:, eps_index, step_index]
    is_unchanged = arrays["prediction_unchanged"][:, eps_index, step_index]
    counts = is_unchanged & is_defined
    counted_tau = tau[counts]
    tau_or_zero = np.where(counts, tau, 0.0)
    value = float(counted_tau.mean()) if len(counted_tau) else np.nan
    return RankCorrelation(
        value,
        len(counted_tau),
        *bootstrap(counted_tau),
        float(tau_or_zero.mean()),
        *bootstrap(tau_or_zero),
        int((~is_defined).sum()),
    )


def robust_tau(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """How much of each image's map survives an attack, `[N, E, S]`.

    It is Kendall's tau-b where the prediction was and stays correct, else 0.
    """
    is_kept = arrays["correct"] & arrays["prediction_unchanged"]
    tau: np.ndarray = np.where(is_kept, arrays["kendall_tau"], 0.0)
    return tau
