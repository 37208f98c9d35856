"""Time per map pair of `irpipe.maps.kendall.kendall` against a loop over scipy.stats.kendalltau, in one run."""

import time
from collections.abc import Callable

import torch
from scipy.stats import kendalltau
from torch import Tensor

from irpipe.maps.kendall import kendall

CASES = ((49, 200, 5), (64, 200, 5), (784, 20, 5), (3072, 5, 5))  # entries, maps, sets: CAM, then IG


def seconds(*functions: Callable[[], object], repeats: int = 9) -> list[float]:
    """Least time of several calls of each, taken in turn, so that what else the machine does slows them alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def loop(clean: Tensor, moved: Tensor) -> list[float]:
    """What the released code does, a pair at a time."""
    return [kendalltau(x, y).statistic for one in moved.numpy() for x, y in zip(clean.numpy(), one, strict=True)]


def main() -> None:
    """Print a table."""
    torch.set_num_threads(1)
    print(f"{'entries':>8}{'scipy, us':>12}{'irpipe, us':>12}{'ratio':>8}")
    for entries, maps, sets in CASES:
        generator = torch.Generator().manual_seed(0)
        clean = torch.randn(maps, entries, generator=generator)
        moved = clean + torch.randn(sets, maps, entries, generator=generator)
        theirs, ours = seconds(lambda: loop(clean, moved), lambda: kendall(clean, moved))  # noqa: B023
        per = 1e6 / (maps * sets)
        print(f"{entries:>8}{theirs * per:>12.1f}{ours * per:>12.1f}{theirs / ours:>8.1f}")


if __name__ == "__main__":
    main()
