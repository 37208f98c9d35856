"""Gradient ascent with its iterates at several step counts; no iterate is computed twice (D.6)."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import Update, objective_gradient
from irpipe.runtime.cuda_graph import CudaGraphed
from irpipe.runtime.memory import gradient_bytes, map_fitting_rows
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import map_row_chunks

MAX_PERIOD = 12  # steps; longer cycles are not looked for
INTERLEAVE = 8  # any number that is well above the number of chunks would do
# Shrink the batch once at most this share of its rows is unfinished: each new size costs the
# libraries more than a few rows that need not move.
COMPACT_BELOW = 0.95


def gradient_ascent_snapshots(
    start: Tensor,
    objective: Callable[..., Tensor],
    make_update: Callable[[Tensor], Update],
    step_counts: Sequence[int],
    label: str = "",
    detect_cycles: bool = True,
) -> Iterator[tuple[int, Tensor]]:
    """Yield `(step count, iterates [M, ...])` for each of `step_counts`, in rising order.

    Equals `gradient_ascent` with its iterates kept at `step_counts`, up to the rounding of a
    smaller batch. Each row of `start` must move independently and deterministically.

    A row that returns to an earlier iterate repeats that cycle for ever. Its later iterates
    are then known, so the row leaves the batch (unless `detect_cycles` is False).

    `objective(points, rows=rows)` and `make_update(rows)` get the indices `[m]` of the rows
    that are still in the batch.

    On a GPU no row leaves, because asking which rows remain would stall the device; one step
    is captured as a CUDA graph and replayed, for as many rows at a time as fit into its memory.
    """
    counts = sorted(set(step_counts))
    start = start.detach()
    if start.device.type != "cpu":
        yield from _snapshots_on_gpu(start, objective, make_update, counts, label)
        return
    snapshots = _Snapshots(start, counts)
    run_steps = partial(_run_steps, snapshots, objective, make_update, detect_cycles)
    rows = _interleaved(len(start))
    state = [rows, start[rows], start[rows], start[rows]]
    boundaries = sorted({*range(0, counts[-1], MAX_PERIOD), *counts})
    with progress(label, counts[-1]) as advance:
        for first, last in pairwise(boundaries):
            state = map_row_chunks(partial(run_steps, first, last), *state)
            advance(last - first)
            if last in counts:
                yield last, snapshots.iterates[counts.index(last)]


def _interleaved(count: int) -> Tensor:
    """Row indices in the order 0, 8, 16, ..., 1, 9, 17, ...

    Rows of one eps finish together. Interleaving spreads them, so all chunks shrink alike.
    """
    rows = torch.arange(count)
    return torch.cat([rows[first::INTERLEAVE] for first in range(INTERLEAVE)])


class _Snapshots:
    """The iterates at several step counts, filled in while gradient ascent runs."""

    def __init__(self, start: Tensor, step_counts: Sequence[int]) -> None:
        # due[i, row]: the first step at which `row` is where it is at step_counts[i]
        self.due = torch.tensor(step_counts)[:, None].repeat(1, len(start))
        self.iterates = start.repeat(len(step_counts), *[1] * start.dim())

    def shorten_cycles(self, rows: Tensor, step: int, period: int) -> None:
        """Note that `rows` are at `step` where they were `period` steps ago.

        x[step + k] = x[step + k mod period], so their later snapshots are due sooner.
        """
        if not len(rows):
            return
        due = self.due[:, rows]
        remaining = due - step
        self.due[:, rows] = torch.where(remaining > 0, step + remaining % period, due)

    def store(self, rows: Tensor, iterates: Tensor, step: int) -> bool:
        """Store the iterates that are due at `step`; return whether there were any."""
        is_due = self.due.index_select(1, rows) == step
        count, position = is_due.nonzero(as_tuple=True)
        if not len(position):
            return False
        self.iterates[count, rows[position]] = iterates[position]
        return True

    def unfinished(self, rows: Tensor, step: int) -> Tensor:
        """Positions in `rows` of those that have a snapshot due after `step`."""
        is_later = self.due.index_select(1, rows) > step
        return is_later.any(dim=0).nonzero().squeeze(1)


def _run_steps(
    snapshots: _Snapshots,
    objective: Callable[..., Tensor],
    make_update: Callable[[Tensor], Update],
    detect_cycles: bool,
    first: int,
    last: int,
    rows: Tensor,
    point: Tensor,
    previous: Tensor,
    anchor: Tensor,
) -> list[Tensor]:
    """Take steps `first + 1` to `last`; return the last four arguments for the rows that remain."""
    update = make_update(rows)
    for step in range(first + 1, last + 1):
        if not len(rows):
            break
        # The anchor is the iterate at the last multiple of MAX_PERIOD.
        since_anchor = (step - 1) % MAX_PERIOD + 1
        if since_anchor == 1:
            anchor = point
        new = update(point, objective_gradient(partial(objective, rows=rows), point))
        if detect_cycles:
            snapshots.shorten_cycles(rows[_equal_rows(new, previous)], step, period=2)
            snapshots.shorten_cycles(rows[_equal_rows(new, anchor)], step, since_anchor)
        previous, point = point, new
        if snapshots.store(rows, point, step):
            unfinished = snapshots.unfinished(rows, step)
            if len(unfinished) <= COMPACT_BELOW * len(rows):
                rows, point, previous, anchor = (
                    tensor.index_select(0, unfinished) for tensor in (rows, point, previous, anchor)
                )
                update = make_update(rows)
    return [rows, point, previous, anchor]


def _equal_rows(new: Tensor, old: Tensor) -> Tensor:
    """Whether a row of `new` equals that of `old` in all entries, `[m]`."""
    return (new - old).flatten(1).abs().amax(dim=1) == 0


def _snapshots_on_gpu(
    start: Tensor,
    objective: Callable[..., Tensor],
    make_update: Callable[[Tensor], Update],
    counts: Sequence[int],
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """As `gradient_ascent_snapshots`: capture one step of as many rows as fit, and replay it."""
    all_rows = torch.arange(len(start), device=start.device)
    row_bytes = partial(gradient_bytes, partial(objective, rows=all_rows[:1]), start[:1])
    with progress(label, counts[-1] * len(start), unit="image steps") as advance:

        def iterates(rows: Tensor, point: Tensor) -> list[Tensor]:
            """The iterates of these rows, one tensor for each of `counts`."""
            update = make_update(rows)

            def one_step(point: Tensor) -> list[Tensor]:
                return [update(point, objective_gradient(partial(objective, rows=rows), point))]

            graphed_step = CudaGraphed(one_step)
            kept = []
            for step in range(1, counts[-1] + 1):
                (point,) = graphed_step(point)
                advance(len(rows))
                if step in counts:
                    kept.append(point)
            return kept

        snapshots = map_fitting_rows(iterates, all_rows, start, row_bytes=row_bytes)
    yield from zip(counts, snapshots, strict=True)
