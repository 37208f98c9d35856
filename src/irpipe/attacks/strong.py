"""Gradient ascent made to win: random starts, margin loss, falling steps, the worst iterate (protocol C.4 P7)."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, ascend, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import lead, margins
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
    for count in sorted(set(steps)):
        worst, largest = centre.clone(), torch.full_like(labels, -math.inf, dtype=torch.float32)
        last = torch.ones_like(labels, dtype=torch.bool)
        for start in range(restarts):
            drawn = noise(case.rng, "uniform", 1.0, images).to(images.dtype).repeat(len(eps), 1, 1, 1)
            rows = torch.nonzero(largest <= 0)[:, 0]
            begin = (centre + radii * drawn).clamp(0, 1)[rows]
            path = _climb(case, begin, centre[rows], radii[rows], labels[rows], count, loss)
            for number, point in enumerate(path, 1):
                if iterate == "worst" or number == count:
                    found = margins(case.folded, point, labels[rows])
                    more = found > largest[rows]
                    worst[rows[more]], largest[rows[more]] = point[more], found[more]
                    last = found <= 0 if start == 0 else last
        yield Outcome(count, worst.view(shape), extra={"last": last.view(shape[:2]), "gradient": slope})


def _climb(
    case: Case, start: Tensor, centre: Tensor, radii: Tensor, labels: Tensor, count: int, loss: str
) -> Iterator[Tensor]:
    """The `count` iterates of one start, steps falling linearly from the radius."""
    sizes = iter([radii * (1 - step / count) for step in range(count)])

    def objective(points: Tensor) -> Tensor:
        logits = case.folded(points)
        if loss == "margin":
            return lead(logits, labels).sum()
        return F.cross_entropy(logits, labels, reduction="sum")

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        return sign_steps(centre, radii, next(sizes))(point, gradient)

    return ascend(start, objective, update, count, case.label)


def _slope(case: Case) -> Tensor:
    """Largest absolute entry of the gradient of each image's own cross-entropy, `[N]`."""
    with torch.enable_grad():
        images = case.images.to(torch.float32, copy=True).requires_grad_()
        loss = F.cross_entropy(case.folded(images), case.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient.abs().flatten(1).amax(dim=1)
