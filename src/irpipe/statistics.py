"""Intervals and tests for means and rates, as pure functions of numbers (D.5)."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of the rate of `successes` in `n` trials; (0, 1) for n = 0.

    With p = successes / n and z the normal quantile of (1 + level) / 2, its bounds are

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Raises ValueError unless 0 <= successes <= n and 0 < level < 1.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927), 209-212.
    """
    # Importing scipy.stats takes more than a second, so only those who need it wait.
    from scipy.stats import binomtest

    if not 0 <= successes <= n or not 0 < level < 1:
        raise ValueError(
            f"wilson: {successes} of {n} at level {level}; "
            "expected 0 <= successes <= n and 0 < level < 1"
        )
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap(
    values: np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` `[n]`; (NaN, NaN) for n = 0.

    `weights` `[n]` weigh the mean. None means equal weights. The same input and `seed` give the
    same bounds. Raises ValueError unless values are finite, weights positive and 0 < level < 1.
    Source: B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7
    (1979), 1-26.
    """
    weights = np.ones(len(values)) if weights is None else weights
    is_valid = (
        np.isfinite(values).all()
        and 0 < level < 1
        and len(weights) == len(values)
        and (weights > 0).all()
    )
    if not is_valid:
        raise ValueError(
            "bootstrap: expected finite values, one positive weight each and 0 < level < 1, "
            f"found level {level}"
        )
    if not len(values):
        return math.nan, math.nan
    indices = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = np.average(values[indices], axis=1, weights=weights[indices])
    return _percentile_interval(means, level)


def two_way_bootstrap(
    values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` `[seeds, n]` over seeds and images.

    It holds for networks of other seeds on other images. Seeds and images are resampled
    independently; as all seeds see the same images, one resample of images serves all of them.
    With few seeds the interval is too narrow: 2 seeds have only 3 different resamples.

    Raises ValueError unless there are finite values and 0 < level < 1.
    Source: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), 386-411.
    """
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or not 0 < level < 1:
        raise ValueError(
            "two_way_bootstrap: expected finite values [seeds, n] and 0 < level < 1, "
            f"found shape {list(values.shape)} and level {level}"
        )
    rng = np.random.default_rng(seed)
    # How often each seed, and each image, is in a resample, as shares of 1: [resamples, count].
    seed_shares, image_shares = (
        rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        for count in values.shape
    )
    means = np.einsum("bs,sn,bn->b", seed_shares, values, image_shares, optimize=True)
    return _percentile_interval(means, level)


def _percentile_interval(means: np.ndarray, level: float) -> tuple[float, float]:
    """The central share `level` of the resampled means."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p-value of McNemar's exact test of two rates on the same trials.

    `only_first` and `only_second` count the trials in which one of the two succeeds alone. If
    both rates are equal, `only_first` is binomial with n = only_first + only_second and p = 1/2,
    so the p-value is min(1, 2 P(X <= min(only_first, only_second))). It is 1 for n = 0.

    Raises ValueError for negative counts.
    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947), 153-157.
    """
    # Importing scipy.stats takes more than a second.
    from scipy.stats import binomtest

    if only_first < 0 or only_second < 0:
        raise ValueError(f"mcnemar: {only_first} and {only_second}; expected two counts")
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def paired_difference_interval(
    only_first: int, only_second: int, n: int, level: float = 0.95
) -> tuple[float, float]:
    """Agresti and Min's interval of the difference of two rates on the same `n` trials.

    `only_first` and `only_second` count the trials in which one of the two succeeds alone. With
    b = only_first + 1/2, c = only_second + 1/2, m = n + 2, d = (b - c) / m and z the normal
    quantile of (1 + level) / 2, its bounds are

        d -+ z sqrt(b + c - m d^2) / m, clipped to [-1, 1]

    Without the halves it is Wald's, which has no width if the two always agree.

    Raises ValueError unless both counts are at least 0 and sum to at most n, n > 0 and
    0 < level < 1.
    Source: A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24 (2005), 729-740.
    """
    is_valid = min(only_first, only_second) >= 0 and only_first + only_second <= n and n >= 1
    if not is_valid or not 0 < level < 1:
        raise ValueError(
            f"paired_difference_interval: {only_first} and {only_second} of {n} at level {level}; "
            "expected two counts that sum to at most n, n > 0 and 0 < level < 1"
        )
    m = n + 2
    d = (only_first - only_second) / m
    z = NormalDist().inv_cdf((1 + level) / 2)
    half_width = z * math.sqrt(only_first + only_second + 1 - m * d**2) / m
    return max(-1.0, d - half_width), min(1.0, d + half_width)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in the order of `p_values`.

    With the m values in rising order, the k-th one becomes the largest of (m - i + 1) p_i over
    i <= k, but at most 1.

    Raises ValueError for values outside [0, 1].
    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979), 65-70.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"holm: {list(p_values)}; expected p-values in [0, 1]")
    if not p_values:
        return []
    # Importing statsmodels takes seconds.
    from statsmodels.stats.multitest import multipletests

    _, adjusted, _, _ = multipletests(p_values, method="holm")
    return [float(p) for p in adjusted]
