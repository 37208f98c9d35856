"""Kendall's tau-b of many pairs of maps at once (C.6-2)."""

import numpy as np
import torch
from torch import Tensor

# Maps of more entries go to scipy: its sorting beats comparing all pairs (benchmarks/kendall.py).
SORT_ABOVE = 512
MAX_PAIRS = 2**20  # pairs of entries that are compared at once


def kendall(clean: Tensor, adversarial: Tensor) -> tuple[Tensor, Tensor]:
    """Tau-b between `clean` maps `[M, n]` and each set of `adversarial` ones `[..., M, n]`.

    Returns tau, float64, and whether it exists, both `[..., M]` on the device of `adversarial`.

        tau-b = (C - D) / sqrt(X Y)

    Of all pairs of entries, C are concordant and D discordant, X are untied in the clean map and
    Y in the adversarial one. Counts are exact. If a map is constant, tau does not exist and the
    value is 0 (C.5 I15). Raises ValueError if a map holds NaN.

    Source: M. G. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945),
    239-251. Equals scipy.stats.kendalltau.
    """
    x = clean.detach().cpu().numpy()
    y = adversarial.detach().cpu().numpy()
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("kendall: a map holds NaN")
    sets = y.reshape(-1, *x.shape)
    tau = _by_comparing(x, sets) if x.shape[1] <= SORT_ABOVE else _by_sorting(x, sets)
    result = torch.from_numpy(tau.reshape(y.shape[:-1])).to(adversarial.device)
    return result.nan_to_num(), ~result.isnan()


def _by_sorting(clean: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Tau-b `[P, M]` of sets `[P, M, n]` by scipy; NaN if a map is constant."""
    from scipy.stats import kendalltau  # takes half as long as torch, and few maps come here

    return np.array(
        [[kendalltau(x, y).statistic for x, y in zip(clean, maps, strict=True)] for maps in sets]
    )


def _by_comparing(clean: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Tau-b `[P, M]` of sets `[P, M, n]` from all ordered pairs; NaN if a map is constant.

    An untied pair of entries rises in exactly one of its two orders. So it is enough to count
    the ordered pairs that rise.
    """
    clean_rises = _rises(clean)
    clean_falls = _rises(-clean)
    n_untied_clean = _count_bits(clean_rises)
    chunk_size = max(1, MAX_PAIRS // clean.shape[1] ** 2)
    tau = np.empty(sets.shape[:2])
    for row, maps in zip(tau, sets, strict=True):
        for start in range(0, len(clean), chunk_size):
            chunk = slice(start, start + chunk_size)
            rises = _rises(maps[chunk])
            n_concordant = _count_bits(rises & clean_rises[chunk])
            n_discordant = _count_bits(rises & clean_falls[chunk])
            n_untied = _count_bits(rises)
            with np.errstate(invalid="ignore"):  # 0 / 0 if a map is constant
                row[chunk] = (n_concordant - n_discordant) / np.sqrt(
                    n_untied_clean[chunk] * n_untied
                )
    return tau


def _rises(maps: np.ndarray) -> np.ndarray:
    """Which of the n * n ordered pairs of entries of each map `[M, n]` rise.

    One bit per pair, `[M, bytes]`.
    """
    is_rising = maps[:, :, None] < maps[:, None, :]
    return np.packbits(is_rising.reshape(len(maps), -1), axis=1)


def _count_bits(bits: np.ndarray) -> np.ndarray:
    """Bits that are set in each row, int64, `[M]`."""
    counts: np.ndarray = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return counts
