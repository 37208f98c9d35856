"""The one gradient ascent of the project: attacks and the inner maximisation of training supply what differs."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from irpipe.models import Folded, Network
from irpipe.progress import progress
from irpipe.replay import Recorded

Update = Callable[[Tensor, Tensor], Tensor]
ANCHOR = 12  # steps between two comparisons' reference: finds every period up to it
ROWS = 200  # at a time on a CPU: what the layers keep of more falls out of its cache
TURN = 2e-4  # seconds until a thread of Python must make way for another
FEW = 8  # rows that are not worth a thread
DEALT = 8  # any number of parts that is not far above
KEPT = 0.95  # of the rows: a new size costs the libraries more than a few rows that need not move


@dataclass(frozen=True)
class Case:
    """What an attack is given: one batch of images, `[N, C, H, W]` in [0, 1], with labels `[N]`, and their network.

    `index` `[N]` are their places in the test set, for what must not depend on the batch. `folded` is the same network
    for loops over images; `rng` stands where the draw of the sample left it, as in the released code, so that an
    attack's own draws follow (C.4, C.6-2).
    """

    network: Network
    folded: Folded
    images: Tensor
    labels: Tensor
    index: np.ndarray
    rng: np.random.RandomState
    label: str = ""  # names the work where its progress is shown
    first: int = 0  # place of its first image in the sample


def noise(rng: np.random.RandomState, kind: Literal["uniform", "gaussian"], scale: float, like: Tensor) -> Tensor:
    """Noise shaped like the images `[N, C, H, W]`, float64, drawn in the released code's NHWC order (C.1).

    Uniform in [-scale, scale], or normal times 0.001 whatever the scale, as the authors of TRADES start (C.3 T8).
    """
    count, channels, height, width = like.shape
    shape = (count, height, width, channels)
    drawn = rng.uniform(-scale, scale, shape) if kind == "uniform" else 0.001 * rng.normal(size=shape)
    return torch.from_numpy(drawn.transpose(0, 3, 1, 2)).to(like.device)


def _gradient(objective: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    variable = point.to(torch.float32, copy=True).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(variable), variable)
    return gradient


def _single() -> None:
    torch.get_num_threads()  # a thread's first question sets it to what was set last, anywhere
    torch.set_num_threads(1)


@cache
def _threads() -> ThreadPoolExecutor:
    """One for each of torch's threads, in which torch has no others: it shares small layers out less well."""
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=_single)


@contextmanager
def _alone() -> Iterator[None]:
    """One of torch's threads here: after each operation the others would spin for a while, on the parts' cores.

    Python's own threads take turns at once: in its five milliseconds a part that waits could have made a step.
    """
    threads, turn = torch.get_num_threads(), sys.getswitchinterval()
    _threads()  # as many as there are now
    torch.set_num_threads(1)
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        sys.setswitchinterval(turn)


def in_parts(function: Callable[..., list[Tensor]], *rows: Tensor) -> list[Tensor]:
    """What `function` gives for tensors `[M, ...]`, worked out side by side for parts of their rows on a CPU.

    The number of parts is even and does not depend on the machine, so that rounding does not either.
    """
    size = len(rows[0])
    if rows[0].device.type != "cpu" or size <= FEW:
        return function(*rows)
    parts = (torch.tensor_split(given, 2 * math.ceil(size / 2 / ROWS)) for given in rows)
    with _alone():
        return [torch.cat(made) for made in zip(*_threads().map(function, *parts), strict=True)]


def ascend(
    start: Tensor, objective: Callable[[Tensor], Tensor], update: Update, steps: int, label: str = ""
) -> Iterator[Tensor]:
    """Yield the iterates 1 to `steps` of `point <- update(point, gradient of the objective)`.

    The objective (a scalar) sees the point in float32; the point keeps the precision it starts in (C.2: float64 in
    training and for CIFAR-10, where rounding decides single images). With a label, progress is shown under it.
    """
    point = start.detach()
    with progress(label, steps) as advance:
        for _ in range(steps):
            point = update(point, _gradient(objective, point))
            advance()
            yield point


def sign_steps(centre: Tensor, radius: float | Tensor, step: float | Tensor) -> Update:
    """Steps along the gradient's sign, kept within `radius` of `centre` (l-inf) and within [0, 1].

    Bounds are computed in the centre's precision. `radius` and `step` broadcast against the images.
    """
    lower, upper = (centre - radius).clamp_(min=0), (centre + radius).clamp_(max=1)

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        return torch.clamp(point + step * gradient.sign(), lower, upper)

    return update


def attain(
    start: Tensor,
    objective: Callable[..., Tensor],
    update: Callable[[Tensor], Update],
    counts: Sequence[int],
    label: str = "",
    leave: bool = True,
) -> Iterator[tuple[int, Tensor]]:
    """Yield each step count in rising order with the iterates `[M, ...]` there, as `ascend` would reach them.

    Each row must move on its own and without chance. Then a row that comes back to where it was goes round for ever:
    all its later iterates are known, and it leaves the batch, as soon as a twentieth can (unless told not to `leave`).
    `objective(points, rows=)` and `update(rows)`, which gives how rows move, see the numbers `[m]` of those that
    remain. Exact up to the rounding of a smaller batch. On a GPU, where asking which rows remain would halt it, all
    move to the end, and a step is recorded once.
    """
    pending = sorted(set(counts))
    if start.device.type != "cpu":
        yield from _replay(start.detach(), objective, update, pending, label)
        return
    # dealt like cards: rows of one radius leave together, and all parts are to shrink alike
    numbers, books = torch.arange(len(start)), _Books(start.detach(), pending)
    rows = torch.cat([numbers[first::DEALT] for first in range(DEALT)])

    def move(first: int, end: int, rows: Tensor, point: Tensor, before: Tensor, anchor: Tensor) -> list[Tensor]:
        """Climb from step `first` to `end`; the same of the rows that remain then."""
        onward = update(rows)
        for step in range(first + 1, end + 1):
            if not len(rows):
                break
            period = (step - 1) % ANCHOR + 1
            anchor = point if period == 1 else anchor
            moved = onward(point, _gradient(partial(objective, rows=rows), point))
            for earlier, apart in ((before, 2), (anchor, period)) if leave else ():
                books.returned(rows[(moved - earlier).flatten(1).abs().amax(dim=1) == 0], step, apart)
            places, kept = books.entered(rows, moved, step), [rows, moved, point, anchor]
            if places is not None:
                kept = [each.index_select(0, places) for each in kept]
                onward = update(kept[0])
            rows, point, before, anchor = kept
        return [rows, point, before, anchor]

    points = [start.detach()[rows]] * 3
    with progress(label, pending[-1]) as advance:
        for first, end in pairwise(sorted({*range(0, pending[-1], ANCHOR), *pending})):
            rows, *points = in_parts(partial(move, first, end), rows, *points)
            advance(end - first)
            if end in pending:
                yield end, books.reached[pending.index(end)]


class _Books:
    """At which step each row is first as at each of the step counts, and the iterates there, `[counts, M, ...]`."""

    def __init__(self, start: Tensor, counts: Sequence[int]) -> None:
        self.due = torch.tensor(counts)[:, None].repeat(1, len(start))
        self.reached = start.repeat(len(counts), *[1] * start.dim())

    def returned(self, rows: Tensor, step: int, period: int) -> None:
        """The rows are at `step` where they were `period` steps ago: what they are later, they are sooner."""
        if len(rows):
            ahead = self.due[:, rows] - step
            self.due[:, rows] = torch.where(ahead > 0, step + ahead % period, self.due[:, rows])

    def entered(self, rows: Tensor, points: Tensor, step: int) -> Tensor | None:
        """Keep the points that are due at `step`; the places of the rows that go on, once enough others need not."""
        wanted = self.due.index_select(1, rows)
        number, place = (wanted == step).nonzero(as_tuple=True)
        if not len(place):
            return None
        self.reached[number, rows[place]] = points[place]
        places = (wanted > step).any(dim=0).nonzero().squeeze(1)
        return places if len(places) <= KEPT * len(rows) else None


def _replay(
    start: Tensor,
    objective: Callable[..., Tensor],
    update: Callable[[Tensor], Update],
    pending: Sequence[int],
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """`attain` by one recorded step of all rows, of which none leaves."""
    rows = torch.arange(len(start), device=start.device)
    onward = update(rows)
    step = Recorded(lambda point: [onward(point, _gradient(partial(objective, rows=rows), point))])
    point = start
    with progress(label, pending[-1]) as advance:
        for number in range(1, pending[-1] + 1):
            (point,) = step(point)
            advance()
            if number in pending:
                yield number, point
