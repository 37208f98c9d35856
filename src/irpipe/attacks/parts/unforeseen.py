"""What the unforeseen attacks of Table 5 share: targets, generators, ascent and record (protocol C.6-3).

Each moves in a space of its own, which its kind describes as a `Space`; only what it draws there is a picture. Pictures
are float32 in 0..255 here, as in the released code. Source: D. Kang et al., "Testing robustness against unforeseen
adversaries" (2019), as adapted by the released code.
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, ascend
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import margins
from irpipe.attacks.parts.targets import targets
from irpipe.quantities import Fidelity, Iterate, StepRule

T = TypeVar("T")
UPSTREAM_STEP = 0.002236  # calibrated for variables in [0, 1], C.6-3


class Space(NamedTuple):
    """Where an attack moves, for one batch: points are `[N, ...]`, one an image, float32."""

    start: Tensor
    render: Callable[[Tensor], Tensor]  # points as pictures [N, C, H, W], 0..255
    move: Callable[[int, Tensor, Tensor], Tensor]  # steps before this one, point, direction uphill: next point
    record: Callable[[Tensor], Mapping[str, Tensor]]  # of the points that the attack ends in, [N] each
    first: Callable[[Tensor], Tensor] = torch.clone  # where the first gradient is taken instead of the start


@dataclass(frozen=True)
class Plan:
    """How a batch is attacked: the options that all kinds share, and what the released code draws for them.

    `images` and `batch` are those of the whole sample; `draws` seeds what the released code drew from torch's
    generator, which it never seeded.
    """

    case: Case
    variant: Fidelity
    steps: int
    targeted: bool
    iterate: Iterate
    draws: int
    images: int
    batch: int

    @property
    def pixels(self) -> Tensor:
        """The images in 0..255, `[N, C, H, W]`, float32."""
        return (self.case.images * 255).float()

    def step_size(self, rule: StepRule, eps: float) -> float:
        """The step of a rule."""
        return UPSTREAM_STEP if rule == "upstream" else eps / math.sqrt(self.steps)

    def targets(self) -> tuple[Tensor, RandomState]:
        """A random class other than the true one, `[N]`, and the generator behind the draw for the whole sample."""
        rng = copy.deepcopy(self.case.rng)
        return targets(self.case, rng, self.images, self.case.first), rng

    def of_batch(self, draw: Callable[[RandomState, int], T]) -> T:
        """What `draw(rng, N)` gives for this batch, after all targets and all batches before it."""
        _, rng = self.targets()
        for _ in range(self.case.first // self.batch):
            draw(rng, self.batch)
        return draw(rng, len(self.case.labels))

    def of_each(self, draw: Callable[[RandomState], T]) -> list[T]:
        """What `draw` gives for each image from a generator of the image's own."""
        return [draw(RandomState([self.draws, int(place)])) for place in self.case.index]

    def tensor(self, arrays: Iterable[np.ndarray]) -> Tensor:
        """Arrays, one an image, as one float32 tensor where the images are."""
        return torch.from_numpy(np.stack(list(arrays))).float().to(self.case.images.device)

    def run(self, spaces: Sequence[Space]) -> Outcome:
        """Attack in each space, one a radius.

        The record: what the space says, `target`, and `nan`: whether the released code's iterate is NaN from some
        step on. Such an image keeps its last finite iterate here.
        """
        pictures, extras = [], []
        for space in spaces:
            point, picture, nan = self._climb(space)
            pictures.append((picture / 255).clamp_(0, 1).to(self.case.images.dtype))
            extras.append(
                {"nan": nan, **space.record(point)} | ({"target": self.targets()[0]} if self.targeted else {})
            )
        bound = torch.full((len(spaces), len(self.case.images)), math.inf, device=self.case.images.device)
        extra = {name: torch.stack([record[name] for record in extras]) for name in extras[0]}
        return Outcome(self.steps, torch.stack(pictures), bound, extra)

    def _climb(self, space: Space) -> tuple[Tensor, Tensor, Tensor]:
        """The point that the attack ends in, its picture, and for which images `[N]` it would have been NaN."""
        wanted = self.targets()[0] if self.targeted else self.case.labels
        weight = (-1 if self.targeted else 1) / (
            len(wanted) if self.variant == "code" else 1
        )  # the code's loss: a mean
        nan, gradients, moves = torch.zeros_like(wanted, dtype=torch.bool), count(), count()

        def objective(point: Tensor) -> Tensor:
            seen = space.render(space.first(point) if next(gradients) == 0 else point)
            return weight * F.cross_entropy(self.case.folded(seen / 255), wanted, reduction="sum")

        def update(point: Tensor, direction: Tensor) -> Tensor:
            moved = space.move(next(moves), point, direction)
            lost = ~moved.flatten(1).isfinite().all(dim=1)
            nan.logical_or_(lost)
            return torch.where(_like(lost, moved), point, moved)

        path = ascend(space.start, objective, update, self.steps, self.case.label)
        return *(self._worst(space, path) if self.iterate == "worst" else _last(space, path)), nan

    def _worst(self, space: Space, path: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Each image's point where the true class leads the least, and its picture as drawn in that batch."""
        chosen, picture = space.start, self.pixels
        largest = torch.full_like(self.case.labels, -math.inf, dtype=torch.float32)
        for point in path:
            with torch.no_grad():
                drawn = space.render(point)
            found = margins(self.case.folded, drawn / 255, self.case.labels)
            worse = found > largest
            largest = torch.maximum(found, largest)
            chosen = torch.where(_like(worse, point), point, chosen)
            picture = torch.where(_like(worse, drawn), drawn, picture)
        return chosen, picture


def _last(space: Space, path: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The last point and its picture."""
    point = deque(path, maxlen=1).pop()
    with torch.no_grad():
        return point, space.render(point)


def share(flags: Tensor, among: Tensor) -> Tensor:
    """Share of the entries `among` an image's, `[N]`, that have a flag; flags are `[N, ...]`."""
    return (flags & among).flatten(1).sum(dim=1) / among.flatten(1).sum(dim=1).clamp(min=1)


def _like(flags: Tensor, point: Tensor) -> Tensor:
    """Flags `[N]` that broadcast against a point `[N, ...]`."""
    return flags.view(-1, *[1] * (point.dim() - 1))


def pictures(case: Case, adversarial: Tensor, *, kept: int) -> dict[str, Tensor]:
    """The first `kept` images of the sample for figures, `[E, K, C, H, W]` in bytes: attacked, and as they were."""
    attacked = adversarial[:, : max(0, kept - case.first)]
    clean = case.images[: attacked.shape[1]].expand_as(attacked)
    return {name: (part * 255).round().to(torch.uint8) for name, part in (("picture", attacked), ("clean", clean))}
