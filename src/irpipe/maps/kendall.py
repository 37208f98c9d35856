"""Kendall's tau-b of many pairs of maps at once (protocol C.6-2)."""

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

SORT = 512  # entries; above, scipy's sorting beats comparing all pairs (benchmarks/kendall.py)
CHUNK = 2**20  # pairs compared at once


def kendall(clean: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Tau-b between `clean` maps `[M, n]` and each set of `moved` ones `[..., M, n]`, float64, and where it is defined.

    Both results are `[..., M]`, on the device of `moved`. With C concordant and D discordant of the pairs of entries,
    X of them untied in the clean map and Y in the moved one,

        tau-b = (C - D) / sqrt(X Y)

    from exact counts, ties included. Where one of the maps is constant it is not defined and the value is 0. Raises
    ValueError if a map holds NaN. Source: M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33
    (1945), 239-251; equals scipy.stats.kendalltau.
    """
    x, y = clean.detach().cpu().numpy(), moved.detach().cpu().numpy()
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("kendall: a map holds NaN")
    sets = y.reshape(-1, *x.shape)
    tau = _compared(x, sets) if x.shape[1] <= SORT else _sorted(x, sets)
    found = torch.from_numpy(tau.reshape(y.shape[:-1])).to(moved.device)
    return found.nan_to_num(), ~found.isnan()


def _sorted(clean: np.ndarray, sets: np.ndarray) -> np.ndarray:
    return np.array([[kendalltau(x, y).statistic for x, y in zip(clean, moved, strict=True)] for moved in sets])


def _compared(clean: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Tau-b `[P, M]` by comparing all ordered pairs: an untied one rises in one of its two orders."""
    rises, falls = _rises(clean), _rises(-clean)  # of the clean maps, once for all sets
    untied = _count(rises)
    size = max(1, CHUNK // clean.shape[1] ** 2)
    tau = np.empty(sets.shape[:2])
    for row, moved in zip(tau, sets, strict=True):
        for start in range(0, len(clean), size):
            part = slice(start, start + size)
            rising = _rises(moved[part])
            agreement = _count(rising & rises[part]) - _count(rising & falls[part])
            with np.errstate(invalid="ignore"):
                row[part] = agreement / np.sqrt(untied[part] * _count(rising))
    return tau


def _rises(maps: np.ndarray) -> np.ndarray:
    """For each map of `[M, n]`, which of its n * n ordered pairs rise: one bit each, `[M, bytes]`."""
    return np.packbits((maps[:, :, None] < maps[:, None, :]).reshape(len(maps), -1), axis=1)


def _count(bits: np.ndarray) -> np.ndarray:
    """Bits set in each row, int64."""
    counts: np.ndarray = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return counts
