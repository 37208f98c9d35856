"""Kendall's tau-b: by hand, and against scipy on random, tied and constant maps of all sizes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

import irpipe.interpretability.kendall
from irpipe.interpretability.kendall import kendall


def assert_equals_scipy(clean: np.ndarray, adversarial: np.ndarray) -> None:
    tau, is_defined = kendall(torch.from_numpy(clean), torch.from_numpy(adversarial))
    assert tau.shape == is_defined.shape == adversarial.shape[:-1]
    assert (tau.dtype, is_defined.dtype) == (torch.float64, torch.bool)
    for index in np.ndindex(*adversarial.shape[:-1]):
        expected = kendalltau(clean[index[-1]], adversarial[index]).statistic
        assert is_defined[index] == (not math.isnan(expected))
        assert tau[index] == pytest.approx(0 if math.isnan(expected) else expected, abs=1e-12)


@pytest.mark.parametrize(
    ("clean", "adversarial", "expected"),
    [
        ([1, 2, 3], [4, 5, 9], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 2, 3], [1, 3, 2], 1 / 3),  # 2 pairs concordant, 1 discordant
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),  # a tie in one map
        ([1, 1, 2, 3], [5, 7, 7, 7], 2 / math.sqrt(5 * 3)),  # ties in both: 2 concordant
        ([-math.inf, 0, math.inf], [0, 1, 2], 1),
        ([0, 1, 0, 1], [0, 0, 1, 1], 0),
    ],
)
def test_by_hand(clean: list[float], adversarial: list[float], expected: float) -> None:
    tau, is_defined = kendall(torch.tensor([clean]), torch.tensor([[adversarial]]))
    assert tau.item() == pytest.approx(expected, abs=1e-15)
    assert is_defined.all()


@pytest.mark.parametrize("size", [2, 3, 49, 64, 513])
def test_constant_maps_are_zero_and_flagged(size: int) -> None:
    constant = torch.full((size,), 0.3)
    rising = torch.arange(size) / size
    tau, is_defined = kendall(
        torch.stack([constant, rising, rising]), torch.stack([rising, constant, rising])[None]
    )
    assert tau.tolist() == [[0, 0, 1]]
    assert is_defined.tolist() == [[False, False, True]]


def test_maps_of_one_entry_have_no_tau() -> None:
    _, is_defined = kendall(torch.zeros(2, 1), torch.zeros(3, 2, 1))
    assert is_defined.tolist() == [[False] * 2] * 3


def test_nan_is_refused() -> None:
    good = torch.zeros(1, 3)
    bad = torch.tensor([[0, math.nan, 1]])
    for clean, adversarial in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"^kendall: a map holds NaN$"):
            kendall(clean, adversarial)


@st.composite
def map_sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps of few or many values: all distinct, some tied, some constant."""
    size = draw(st.integers(2, 40))
    n_maps = draw(st.integers(1, 4))
    n_sets = draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_values = draw(st.sampled_from([1, 2, 3, 10, 10**6]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))

    def random_maps(*shape: int) -> np.ndarray:
        return (rng.integers(0, n_values, shape) / 7).astype(dtype)

    clean = random_maps(n_maps, size)
    share_of_clean = draw(st.sampled_from([0, 1]))
    return clean, random_maps(n_sets, n_maps, size) + share_of_clean * clean


@given(map_sets())
@settings(max_examples=150, deadline=None)
def test_equals_scipy_on_any_maps(maps: tuple[np.ndarray, np.ndarray]) -> None:
    assert_equals_scipy(*maps)


@pytest.mark.parametrize("size", [49, 64, 511, 512, 513, 784])
def test_equals_scipy_at_sizes_that_occur(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(size)
    clean = rng.normal(size=(5, size)).astype(np.float32)
    clean[1] = clean[1].round(1)
    adversarial = clean + rng.normal(size=(2, 3, 5, size), scale=0.3).astype(np.float32)
    adversarial[0, 0] = adversarial[0, 0].round(1)
    # Compare two maps at a time.
    monkeypatch.setattr(irpipe.interpretability.kendall, "MAX_PAIRS", 2 * size**2)
    assert_equals_scipy(clean, adversarial)
