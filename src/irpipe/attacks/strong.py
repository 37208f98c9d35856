"""Gradient ascent made to win: random starts, margin loss, falling steps, the worst iterate (protocol C.4 P7)."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, ascend, in_parts, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import lead, margins
from irpipe.progress import progress
from irpipe.quantities import Count, Counts, Iterate, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    steps: Counts = [1, 10, 100],  # noqa: B006 (read, never changed)
    restarts: Count = 3,  # starts in all, C.4 P7
    loss: Literal["margin", "cross_entropy"] = "margin",  # what the steps raise, C.4 P7
    iterate: Iterate = "worst",  # of each start, C.4 P7
) -> Iterator[Outcome]:
    """Yield each image's iterate of largest margin over all starts, `[E, N, C, H, W]`, at every step count.

    Each step count is an attack of its own, whose k-th of n steps is eps * (1 - k/n), k from 0, from a uniform start; a
    later start takes up the images that are still right. The record, `[E, N]`: `last`, whether the last iterate of the
    first start is right; `gradient`, the largest absolute entry of the gradient of the image's own cross-entropy at the
    clean image.
    """
    images, shape = case.images, (len(eps), *case.images.shape)
    radii = torch.tensor(eps, dtype=images.dtype, device=images.device).repeat_interleave(len(images))
    radii = radii.view(-1, 1, 1, 1)  # a row an image and radius
    centre, labels = images.expand(shape).flatten(0, 1), case.labels.repeat(len(eps))
    slope = _slope(case).expand(shape[:2])
    counts = sorted(set(steps))
    with progress(case.label, len(counts) * restarts) as advance:
        for count in counts:
            worst, largest = centre.clone(), torch.full_like(labels, -math.inf, dtype=torch.float32)
            last = torch.ones_like(labels, dtype=torch.bool)
            for start in range(restarts):
                drawn = noise(case.rng, "uniform", 1.0, images).to(images.dtype).repeat(len(eps), 1, 1, 1)
                rows = torch.nonzero(largest <= 0)[:, 0]
                begin = (centre + radii * drawn).clamp(0, 1)[rows]
                climb = partial(_climb, case, count, loss, iterate)
                point, found, right = in_parts(climb, begin, centre[rows], radii[rows], labels[rows])
                worst[rows], largest[rows] = _worse(worst[rows], largest[rows], point, found)
                last = right if start == 0 else last
                advance()
            yield Outcome(count, worst.view(shape), extra={"last": last.view(shape[:2]), "gradient": slope})


def _climb(
    case: Case,
    count: int,
    loss: str,
    iterate: Iterate,
    start: Tensor,
    centre: Tensor,
    radii: Tensor,
    labels: Tensor,
) -> list[Tensor]:
    """The iterate of largest margin of `count` steps, or the last one; its margin; whether the last one is right.

    Steps fall linearly from the radius. The margin of an iterate is taken from the pass that gives its gradient.
    """
    sizes = iter([radii * (1 - step / count) for step in range(count)])
    passed: list[Tensor] = []

    def objective(points: Tensor) -> Tensor:
        logits = case.folded(points)
        leads = lead(logits, labels)
        passed.append(leads.detach())
        return leads.sum() if loss == "margin" else F.cross_entropy(logits, labels, reduction="sum")

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        return sign_steps(centre, radii, next(sizes))(point, gradient)

    worst, largest, before = start, torch.full_like(labels, -math.inf, dtype=torch.float32), None
    for point in ascend(start, objective, update, count):
        if before is not None and iterate == "worst":
            worst, largest = _worse(worst, largest, before, passed[-1])
        before = point
    found = margins(case.folded, point, labels)
    return [*_worse(worst, largest, point, found), found <= 0]


def _worse(worst: Tensor, largest: Tensor, point: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """The images of larger margin, and it."""
    more = found > largest
    return torch.where(more.view(-1, 1, 1, 1), point, worst), torch.where(more, found, largest)


def _slope(case: Case) -> Tensor:
    """Largest absolute entry of the gradient of each image's own cross-entropy, `[N]`."""
    with torch.enable_grad():
        images = case.images.to(torch.float32, copy=True).requires_grad_()
        loss = F.cross_entropy(case.folded(images), case.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient.abs().flatten(1).amax(dim=1)
