"""Kendall's tau-b of many pairs of maps, against a loop over scipy.stats.kendalltau."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from benchmarks.common import Row, Setup, comparison, time_in_turns
from irpipe.interpretability.kendall import kendall

# Entries of a map, maps, sets of maps. The first two sizes are those of CAM, the others of IG.
SIZES = ((49, 200, 5), (64, 200, 5), (784, 20, 5), (3072, 5, 5))


def scipy_loop(clean: Tensor, adversarial: Tensor) -> np.ndarray:
    """Tau-b `[P, M]` as the released code computes it, one pair at a time."""
    rows = [
        [kendalltau(x, y).statistic for x, y in zip(clean.numpy(), maps, strict=True)]
        for maps in adversarial.numpy()
    ]
    return np.array(rows)


def rows(setup: Setup) -> Iterator[Row]:
    """Yield one comparison for each size of the maps."""
    for n_entries, n_maps, n_sets in SIZES:
        generator = torch.Generator().manual_seed(0)
        clean = torch.randn(n_maps, n_entries, generator=generator)
        noise = torch.randn(n_sets, n_maps, n_entries, generator=generator)
        adversarial = clean + noise
        ((tau, _), expected), (irpipe_seconds, scipy_seconds) = time_in_turns(
            3 * setup.rounds,
            partial(kendall, clean, adversarial),
            partial(scipy_loop, clean, adversarial),
        )
        equal = f"within {np.abs(tau.numpy() - expected).max():.0e}"
        work = f"tau-b, {n_entries} entries, {n_maps * n_sets} pairs"
        yield comparison(work, "scipy", irpipe_seconds, scipy_seconds, equal)
