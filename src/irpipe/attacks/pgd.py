"""Projected gradient descent on the cross-entropy, untargeted (protocol C.4)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, attain, noise, sign_steps
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
    shape = (len(eps), *case.images.shape)
    radii = torch.tensor(eps, dtype=case.images.dtype, device=case.images.device).view(-1, 1, 1, 1, 1)
    start = centre = case.images.expand(shape)
    if random_start:
        start = (centre + radii * noise(case.rng, "uniform", 1.0, case.images).to(centre.dtype)).clamp(0, 1)
    # a row an image and radius
    start, centre, labels = start.flatten(0, 1), centre.flatten(0, 1), case.labels.repeat(len(eps))
    radii = radii.expand(len(eps), len(case.labels), 1, 1, 1).flatten(0, 1)

    def loss(images: Tensor, rows: Tensor) -> Tensor:
        # the mean over one radius' images: its scale decides where a vanishing gradient becomes zero
        return F.cross_entropy(case.folded(images), labels[rows], reduction="sum") / len(case.labels)

    trajectories = [sorted(set(steps))] if relative is None else [[count] for count in sorted(set(steps))]
    for counts in trajectories:
        step = step_size if relative is None else relative * radii / counts[-1]

        def update(point: Tensor, gradient: Tensor, rows: Tensor, step: float | Tensor = step) -> Tensor:
            size = step if isinstance(step, float) else step[rows]
            return sign_steps(centre[rows], radii[rows], size)(point, gradient)

        for count, images in attain(start, loss, update, counts, case.label):
            yield Outcome(count, images.view(shape))
