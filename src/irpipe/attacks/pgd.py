"""Projected gradient descent on the cross-entropy, untargeted (protocol C.4)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, ascend, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.quantities import Counts, Positive, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    steps: Counts = [1, 10, 100, 200],  # noqa: B006 (read, never changed)
    step_size: Positive = 0.01,  # at every radius and on every data set, C.4 P1
    relative: Positive | None = None,  # instead: steps of relative * eps / steps, C.4 P1
    random_start: bool = False,  # C.4 P8
) -> Iterator[Outcome]:
    """Yield the last iterate, `[E, N, C, H, W]`, at every step count.

    With the fixed step, one trajectory a radius passes through all step counts; all radii run in one batch. With
    relative steps each step count is a trajectory of its own.
    """
    radii = torch.tensor(eps, dtype=case.images.dtype, device=case.images.device).view(-1, 1, 1, 1, 1)
    centre = case.images.expand(len(eps), *case.images.shape)
    start = centre
    if random_start:
        start = (centre + radii * noise(case.rng, "uniform", 1.0, case.images).to(centre.dtype)).clamp(0, 1)
    labels = case.labels.repeat(len(eps))

    def loss(images: Tensor) -> Tensor:
        # the mean over one radius' images: its scale decides where a vanishing gradient becomes zero
        return F.cross_entropy(case.folded(images.flatten(0, 1)), labels, reduction="sum") / len(case.labels)

    if relative is None:
        path = ascend(start, loss, sign_steps(centre, radii, step_size), max(steps), case.label)
        yield from (Outcome(done, images) for done, images in enumerate(path, 1) if done in steps)
    else:
        for count in sorted(set(steps)):
            *_, last = ascend(start, loss, sign_steps(centre, radii, relative * radii / count), count, case.label)
            yield Outcome(count, last)
