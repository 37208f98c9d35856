"""Statistics that stand beside every mean."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate of `successes` in `n` trials; (0, 1) for n = 0.

    With p = successes/n and z the normal quantile of (1 + level)/2, the bounds are

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Raises ValueError unless 0 <= successes <= n and 0 < level < 1. Source: E. B. Wilson, "Probable inference,
    the law of succession, and statistical inference", JASA 22 (1927), 209-212.
    """
    if not 0 <= successes <= n or not 0 < level < 1:
        raise ValueError(f"wilson: {successes} of {n} at level {level}; want 0 <= successes <= n, 0 < level < 1")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p, shrink = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    return (centre - half if successes else 0.0), (centre + half if successes < n else 1.0)  # no rounding at the ends


def bootstrap(
    values: np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` `[n]`, weighted by `weights` `[n]` if given.

    Resamples places of `values`, with replacement, by a generator of `seed`: equal input gives equal bounds. (NaN, NaN)
    for n = 0. Raises ValueError unless values are finite, 0 < level < 1, and weights are positive. Source: B. Efron,
    "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979), 1-26.
    """
    weights = np.ones(len(values)) if weights is None else weights
    if not np.isfinite(values).all() or not 0 < level < 1 or len(weights) != len(values) or not (weights > 0).all():
        raise ValueError(f"bootstrap: wants finite values, positive weights and 0 < level < 1, found level {level}")
    if not len(values):
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    means = np.average(values[drawn], axis=1, weights=weights[drawn])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def crossed(values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` `[seeds, n]`: seeds and images are drawn, each alone.

    So it holds for networks of other seeds on other images; all seeds see the same images, which are therefore drawn
    once for all. Of few seeds it is too narrow: 2 have 3 different draws. Raises ValueError unless there are finite
    values and 0 < level < 1. Source: A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007),
    386-411.
    """
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or not 0 < level < 1:
        raise ValueError(f"crossed: wants finite values [seeds, n] and 0 < level < 1, found level {level}")
    rng, (rows, columns) = np.random.default_rng(seed), values.shape
    shares = [rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count for count in (rows, columns)]
    means = np.einsum("bs,sn,bn->b", shares[0], values, shares[1], optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(first: int, second: int) -> float:
    """Two-sided p-value of the exact McNemar test of two rates on the same n trials; 1 where they never differ.

    `first` and `second` count the trials that only the one or only the other wins. If neither is better, `first` is
    binomial with n = first + second and p = 1/2, so p = min(1, 2 P(X <= min(first, second))). Raises ValueError for
    negative counts. Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12 (1947), 153-157.
    """
    if first < 0 or second < 0:
        raise ValueError(f"mcnemar: {first} and {second} are to be counts")
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired(first: int, second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wald interval of the difference of two rates on the same n trials, with d = (first - second)/n the difference:

        d -+ z sqrt(first + second - n d^2) / n

    `first` and `second` count the trials that only the one or only the other wins; z is the normal quantile of
    (1 + level)/2. Raises ValueError unless 0 <= first, second; first + second <= n; 0 < n; 0 < level < 1. Source: J. L.
    Fleiss, "Statistical Methods for Rates and Proportions" (1981), section 8.1.
    """
    if min(first, second) < 0 or first + second > n or n < 1 or not 0 < level < 1:
        raise ValueError(f"paired: {first} and {second} of {n} at level {level}")
    difference = (first - second) / n
    half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(first + second - n * difference**2) / n
    return difference - half, difference + half


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in the order given.

    With the m values in rising order, the k-th is the largest of (m - i + 1) p_i over i <= k, at most 1. Raises
    ValueError for values outside [0, 1]. Source: S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    if not all(0 <= value <= 1 for value in p):
        raise ValueError(f"holm: wants p-values, found {list(p)}")
    adjusted, least = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        least = max(least, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = least
    return adjusted
