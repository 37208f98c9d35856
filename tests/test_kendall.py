"""Kendall's tau-b: by hand, and against scipy on random, tied and constant maps on both sides of the crossover."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

import irpipe.maps.kendall
from irpipe.maps.kendall import kendall


def assert_equals_scipy(clean: np.ndarray, moved: np.ndarray) -> None:
    tau, defined = kendall(torch.from_numpy(clean), torch.from_numpy(moved))
    assert tau.shape == defined.shape == moved.shape[:-1]
    assert (tau.dtype, defined.dtype) == (torch.float64, torch.bool)
    for place in np.ndindex(*moved.shape[:-1]):
        expected = kendalltau(clean[place[-1]], moved[place]).statistic
        assert defined[place] == (not math.isnan(expected))
        assert tau[place] == pytest.approx(0 if math.isnan(expected) else expected, abs=1e-12)


@pytest.mark.parametrize(
    ("clean", "moved", "tau"),
    [
        ([1, 2, 3], [4, 5, 9], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 2, 3], [1, 3, 2], 1 / 3),  # 2 pairs concordant, 1 discordant
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),  # a tie in one
        ([1, 1, 2, 3], [5, 7, 7, 7], 2 / math.sqrt(5 * 3)),  # ties in both: 2 concordant
        ([-math.inf, 0, math.inf], [0, 1, 2], 1),
        ([0, 1, 0, 1], [0, 0, 1, 1], 0),
    ],
)
def test_by_hand(clean: list[float], moved: list[float], tau: float) -> None:
    found, defined = kendall(torch.tensor([clean]), torch.tensor([[moved]]))
    assert found.item() == pytest.approx(tau, abs=1e-15)
    assert defined.all()


@pytest.mark.parametrize("size", [2, 3, 49, 64, 513])
def test_constant_maps_are_zero_and_flagged(size: int) -> None:
    flat, slope = torch.full((size,), 0.3), torch.arange(size) / size
    tau, defined = kendall(torch.stack([flat, slope, slope]), torch.stack([slope, flat, slope])[None])
    assert tau.tolist() == [[0, 0, 1]]
    assert defined.tolist() == [[False, False, True]]
    assert kendall(torch.zeros(2, 1), torch.zeros(3, 2, 1))[1].tolist() == [[False] * 2] * 3  # one entry, no pair


def test_nan_is_refused() -> None:
    good, bad = torch.zeros(1, 3), torch.tensor([[0, math.nan, 1]])
    for clean, moved in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match=r"^kendall: a map holds NaN$"):
            kendall(clean, moved)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Maps of few or many values: all distinct, some tied, some constant."""
    size, maps, sets = draw(st.integers(2, 40)), draw(st.integers(1, 4)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from([1, 2, 3, 10, 10**6]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))

    def make(*shape: int) -> np.ndarray:
        return (rng.integers(0, values, shape) / 7).astype(dtype)

    clean = make(maps, size)
    return clean, make(sets, maps, size) + draw(st.sampled_from([0, 1])) * clean


@given(cases())
@settings(max_examples=150, deadline=None)
def test_equals_scipy_on_any_maps(case: tuple[np.ndarray, np.ndarray]) -> None:
    assert_equals_scipy(*case)


@pytest.mark.parametrize("size", [49, 64, 511, 512, 513, 784])
def test_equals_scipy_at_sizes_that_occur(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(size)
    clean = rng.normal(size=(5, size)).astype(np.float32)
    clean[1] = clean[1].round(1)
    moved = clean + rng.normal(size=(2, 3, 5, size), scale=0.3).astype(np.float32)
    moved[0, 0] = moved[0, 0].round(1)
    monkeypatch.setattr(irpipe.maps.kendall, "CHUNK", 2 * size**2)  # maps two at a time
    assert_equals_scipy(clean, moved)
