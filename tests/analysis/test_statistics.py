"""Intervals and tests, by hand and against their formulas written out here."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from irpipe.statistics import (
    bootstrap,
    holm,
    mcnemar,
    paired_difference_interval,
    two_way_bootstrap,
    wilson,
)

# Normal quantiles (1 + level) / 2 as tables print them.
QUANTILES = {0.8: 1.2815515655446004, 0.95: 1.959963984540054, 0.99: 2.5758293035489004}


def wilson_by_formula(successes: int, n: int, z: float) -> tuple[float, float]:
    """The two p for which |successes / n - p| = z sqrt(p (1 - p) / n).

    Squared, this is (n + z^2) p^2 - (2 k + z^2) p + k^2 / n = 0 with k = successes.
    """
    a = n + z * z
    b = -(2 * successes + z * z)
    c = successes * successes / n
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def mcnemar_by_formula(only_first: int, only_second: int) -> float:
    """Twice the binomial tail, in whole numbers."""
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**n)


def holm_by_formula(p_values: Sequence[float]) -> list[float]:
    """For each p, the largest of (number of p-values from q upwards) q over all q <= p."""
    ranked = sorted(p_values)
    scaled = [(len(ranked) - rank) * q for rank, q in enumerate(ranked)]
    return [
        min(1.0, max(value for value, q in zip(scaled, ranked, strict=True) if q <= p))
        for p in p_values
    ]


# --- Wilson


@pytest.mark.parametrize("level", QUANTILES)
@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 200), (158, 200), (200, 200), (3456, 10000)]
)
def test_wilson_solves_its_equation(successes: int, n: int, level: float) -> None:
    expected = wilson_by_formula(successes, n, QUANTILES[level])
    assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


def test_wilson_by_hand() -> None:
    """Two cases in which the square root is simple: 1 of 2, and none of 200."""
    z = QUANTILES[0.95]
    half_width = z / (2 * math.sqrt(2 + z * z))
    assert wilson(1, 2) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-12)
    assert wilson(0, 200) == pytest.approx((0, z * z / (200 + z * z)), abs=1e-12)


def test_wilson_of_no_trials_is_zero_to_one() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_reaches_zero_and_one_exactly() -> None:
    assert wilson(0, 7)[0] == 0.0
    assert wilson(7, 7)[1] == 1.0


@pytest.mark.parametrize(("successes", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int, level: float) -> None:
    with pytest.raises(ValueError, match=f"{successes} of {n} at level {level}"):
        wilson(successes, n, level)


# --- bootstrap


def test_bootstrap_by_hand() -> None:
    """Resamples of 0 and 1 have means 0, 1/2 and 1 with shares 1/4, 1/2 and 1/4."""
    values = np.array([0.0, 1.0])
    assert bootstrap(values) == (0, 1)
    assert bootstrap(values, level=0.4) == (0.5, 0.5)
    assert bootstrap(values, level=0.4, weights=np.array([1, 3])) == (0.75, 0.75)


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.RandomState(0).exponential(size=80)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=0.9, n_resamples=20000, rng=1
    ).confidence_interval
    assert bootstrap(values, 0.9, 20000) == pytest.approx((expected.low, expected.high), rel=0.01)
    assert bootstrap(values) == bootstrap(values) != bootstrap(values, seed=1)


def test_bootstrap_of_no_values_is_nan() -> None:
    assert all(math.isnan(bound) for bound in bootstrap(np.array([])))


@pytest.mark.parametrize(
    "options",
    [
        {"values": [1, math.nan]},
        {"weights": [1, 0]},
        {"weights": [1]},
        {"level": 1.0},
        {"level": 0.0},
    ],
)
def test_bootstrap_refuses_what_has_no_mean(options: dict[str, object]) -> None:
    arrays = {
        key: np.array(value) if isinstance(value, list) else value for key, value in options.items()
    }
    with pytest.raises(ValueError, match=r"bootstrap: expected finite values, one positive weight"):
        bootstrap(**({"values": np.array([1, 2])} | arrays))  # type: ignore[arg-type]


def test_two_way_bootstrap_by_hand() -> None:
    """Resampling two equal columns, or two equal rows, adds nothing to that of the others."""
    rows = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert two_way_bootstrap(rows) == two_way_bootstrap(rows.T) == (0, 1)
    assert two_way_bootstrap(rows, level=0.4) == two_way_bootstrap(rows.T, level=0.4) == (0.5, 0.5)
    one_resample = [two_way_bootstrap(rows, seed=seed, resamples=1) for seed in (1, 3)]
    assert one_resample[0] != one_resample[1]


def test_two_way_bootstrap_of_one_seed_is_the_plain_bootstrap() -> None:
    values = np.random.RandomState(0).exponential(size=80)
    one_seed = two_way_bootstrap(values[None], resamples=20000)
    assert one_seed == pytest.approx(bootstrap(values, resamples=20000), rel=0.02)


def test_two_way_bootstrap_sees_the_spread_of_seeds() -> None:
    """Two seeds are 1 apart, and a quarter of the resamples has only the one or the other."""
    values = np.random.RandomState(0).exponential(size=80)
    low, high = two_way_bootstrap(np.stack([values, values + 1]))
    assert high - low > 0.9


@pytest.mark.parametrize(
    "values", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), np.array([[math.nan]])]
)
def test_two_way_bootstrap_refuses_what_has_no_mean(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two_way_bootstrap: expected finite values"):
        two_way_bootstrap(values)


# --- paired tests


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 0) == 1  # 2 * 1/2
    assert mcnemar(0, 5) == pytest.approx(2 / 32, rel=1e-12)
    assert mcnemar(5, 1) == pytest.approx(2 * (1 + 6) / 64, rel=1e-12)
    assert mcnemar(3, 3) == 1  # twice the tail exceeds 1
    with pytest.raises(ValueError, match="-1 and 2"):
        mcnemar(-1, 2)


def test_mcnemar_equals_its_formula() -> None:
    rng = np.random.default_rng(3)
    counts = [*rng.integers(0, 60, size=(50, 2)).tolist(), [0, 0], [900, 1100], [0, 10000]]
    for only_first, only_second in counts:
        expected = mcnemar_by_formula(only_first, only_second)
        assert mcnemar(only_first, only_second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"1\.5"):
        holm([1.5])


def test_holm_equals_its_formula() -> None:
    """On families of p-values with ties, zeros and ones."""
    rng = np.random.default_rng(8)
    for size in (1, 2, 7, 60):
        p_values = np.round(rng.uniform(size=size) ** 3, 2).tolist()
        assert holm(p_values) == pytest.approx(holm_by_formula(p_values), abs=1e-12)


def test_random_tables_of_two_networks() -> None:
    """Images are correct under both, the first, the second or neither of two networks."""
    rng = np.random.default_rng(8)
    p_values = []
    for _ in range(60):
        n = int(rng.integers(1, 3000))
        both, only_first, only_second, _ = rng.multinomial(n, rng.dirichlet(np.ones(4))).tolist()
        level = float(rng.uniform(0.5, 0.999))
        z = float(scipy.stats.norm.ppf((1 + level) / 2))
        p_values.append(mcnemar(only_first, only_second))
        expected = mcnemar_by_formula(only_first, only_second)
        assert p_values[-1] == pytest.approx(expected, abs=1e-9)
        n_correct = both + only_first
        expected_interval = wilson_by_formula(n_correct, n, z)
        assert wilson(n_correct, n, level) == pytest.approx(expected_interval, abs=1e-9)
    assert holm(p_values) == pytest.approx(holm_by_formula(p_values), abs=1e-9)


def test_paired_difference_interval_by_hand() -> None:
    """With half an image more on each side, 30 against 10 of 198 are 30.5 against 10.5 of 200.

    d = 0.1, and 41 - 200 * 0.01 = 39. None against none of 98: d = 0, and the root is 1.
    """
    z = QUANTILES[0.95]
    half_width = z * math.sqrt(39) / 200
    expected = (0.1 - half_width, 0.1 + half_width)
    assert paired_difference_interval(30, 10, 198) == pytest.approx(expected)
    assert paired_difference_interval(0, 0, 98) == pytest.approx((-z / 100, z / 100))
    for counts in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(ValueError, match="of"):
            paired_difference_interval(*counts)


@pytest.mark.parametrize("n", [1, 2, 7, 200])
def test_paired_difference_interval_is_never_certain(n: int) -> None:
    """Two that always agree may differ on other images, and two that always differ may agree."""
    low, high = paired_difference_interval(0, 0, n)
    assert low == -high < -1 / (n + 2)
    low, high = paired_difference_interval(n, 0, n)
    assert low < 1 == high
