"""Kendall's tau-b of many pairs of maps, against a loop over scipy.stats.kendalltau."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from benchmarks.common import Line, Setup, in_turns, line
from irpipe.maps.kendall import kendall

CASES = ((49, 200, 5), (64, 200, 5), (784, 20, 5), (3072, 5, 5))  # entries, maps, sets: CAM, then IG


def loop(clean: Tensor, moved: Tensor) -> np.ndarray:
    """What the released code does, a pair at a time."""
    rows = [[kendalltau(x, y).statistic for x, y in zip(clean.numpy(), one, strict=True)] for one in moved.numpy()]
    return np.array(rows)


def lines(setup: Setup) -> Iterator[Line]:
    """A line a size of maps."""
    for entries, maps, sets in CASES:
        generator = torch.Generator().manual_seed(0)
        clean = torch.randn(maps, entries, generator=generator)
        moved = clean + torch.randn(sets, maps, entries, generator=generator)
        ((own, _), found), (quick, slow) = in_turns(
            3 * setup.rounds,
            partial(kendall, clean, moved),
            partial(loop, clean, moved),
        )
        equal = f"within {np.abs(own.numpy() - found).max():.0e}"
        yield line(f"tau-b, {entries} entries, {maps * sets} pairs", "scipy", quick, slow, equal)
