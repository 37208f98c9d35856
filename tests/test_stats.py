"""Statistics, against scipy and by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binomtest
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from irpipe.stats import bootstrap, crossed, holm, mcnemar, paired, wilson


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 200), (158, 200), (200, 200), (3456, 10000)])
def test_wilson_equals_scipy(successes: int, n: int, level: float) -> None:
    theirs = binomtest(successes, n).proportion_ci(level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_tests_and_intervals_equal_statsmodels() -> None:
    """On random tables of two networks' images: right under both, the one, the other, neither."""
    rng = np.random.default_rng(8)
    values = []
    for _ in range(60):
        table = rng.multinomial(rng.integers(1, 3000), rng.dirichlet(np.ones(4))).reshape(2, 2)
        n, level = int(table.sum()), float(rng.uniform(0.5, 0.999))
        values.append(mcnemar(int(table[0, 1]), int(table[1, 0])))
        assert values[-1] == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, abs=1e-9)
        right = int(table[0].sum())
        theirs = proportion_confint(right, n, alpha=1 - level, method="wilson")
        assert wilson(right, n, level) == pytest.approx(theirs, abs=1e-9)
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-9)


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


def test_crossed_bootstrap_by_hand() -> None:
    """Of two rows [0, 0] and [1, 1]: means 0, 1/2, 1 with shares 1/4, 1/2, 1/4; columns that agree add nothing."""
    rows = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert crossed(rows) == crossed(rows.T) == (0, 1)
    assert crossed(rows, level=0.4) == crossed(rows.T, level=0.4) == (0.5, 0.5)
    assert crossed(rows, seed=1, resamples=1) != crossed(rows, seed=3, resamples=1)


def test_one_seed_is_the_plain_bootstrap() -> None:
    values = np.random.RandomState(0).exponential(size=80)
    assert crossed(values[None], resamples=20000) == pytest.approx(bootstrap(values, resamples=20000), rel=0.02)
    again = crossed(np.stack([values, values + 1]))
    assert again[1] - again[0] > 0.9  # of two seeds 1 apart, both alike in a quarter of the draws each


def test_crossed_bootstrap_refuses_what_has_no_mean() -> None:
    for given in (np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.array([[math.nan]])):
        with pytest.raises(ValueError, match="crossed: wants finite values"):
            crossed(given)


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 0) == 1  # 2 * 1/2
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(5, 1) == 2 * (1 + 6) / 64
    assert mcnemar(3, 3) == 1  # twice the tail exceeds 1
    with pytest.raises(ValueError, match="-1 and 2"):
        mcnemar(-1, 2)


def test_mcnemar_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    for first, second in [*rng.integers(0, 60, size=(50, 2)).tolist(), [900, 1100], [0, 10000]]:
        expected = binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"1\.5"):
        holm([1.5])


def test_paired_interval_by_hand() -> None:
    # 30 against 10 of 200: d = .1, the variance 40 - 200 * .01 = 38
    assert paired(30, 10, 200) == pytest.approx((0.1 - 1.959964 * 38**0.5 / 200, 0.1 + 1.959964 * 38**0.5 / 200))
    assert paired(0, 0, 7) == (0, 0)
    for wrong in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="of"):
            paired(*wrong)
