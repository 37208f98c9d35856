"""Statistics, against scipy and by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binomtest

from irpipe.stats import bootstrap, wilson


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 200), (158, 200), (200, 200), (3456, 10000)])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    theirs = binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_touches_its_ends() -> None:
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0


@pytest.mark.parametrize(("successes", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n} at level {level}"):
        wilson(successes, n, level)


def test_bootstrap_by_hand() -> None:
    two = np.array([0.0, 1.0])  # means of resamples: 0, 1/2 and 1 with shares 1/4, 1/2 and 1/4
    assert bootstrap(two) == (0, 1)
    assert bootstrap(two, level=0.4) == (0.5, 0.5)
    assert bootstrap(two, level=0.4, weights=np.array([1, 3])) == (0.75, 0.75)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.RandomState(0).exponential(size=80)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=0.9, n_resamples=20000, rng=1
    ).confidence_interval
    assert bootstrap(values, 0.9, 20000) == pytest.approx((theirs.low, theirs.high), rel=0.01)
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)


def test_bootstrap_of_nothing_says_nothing() -> None:
    assert all(math.isnan(bound) for bound in bootstrap(np.array([])))


@pytest.mark.parametrize(
    "options", [{"values": [1, math.nan]}, {"weights": [1, 0]}, {"weights": [1]}, {"level": 1.0}, {"level": 0.0}]
)
def test_bootstrap_refuses_what_has_no_mean(options: dict[str, object]) -> None:
    given = {key: np.array(value) if isinstance(value, list) else value for key, value in options.items()}
    with pytest.raises(ValueError, match="wants finite values, positive weights and 0 < level < 1"):
        bootstrap(**({"values": np.array([1, 2])} | given))  # type: ignore[arg-type]
