"""Statistics that stand beside every mean."""

import math
from statistics import NormalDist


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
