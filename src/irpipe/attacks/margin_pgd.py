"""A stronger PGD: margin loss, random starts, decaying steps, worst iterate (C.4 P7)."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import objective_gradient
from irpipe.ascent.norms import ball_update, project, random_in_ball
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._certified import certified_by_bounds
from irpipe.attacks._margin_loss import image_margin_loss, margin_loss, nan_to_inf
from irpipe.option_types import Count, EpsList, EpsNorm, Iterate, StepCounts
from irpipe.runtime.cuda_graph import graphed
from irpipe.runtime.memory import gradient_bytes, map_fitting_rows
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import map_row_chunks

PROTOCOL = ("C.4 P7",)
NORMS = ("linf", "l2", "l1")


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    steps: StepCounts = [1, 10, 100],  # noqa: B006
    # In which eps bounds the change.
    norm: EpsNorm = "linf",
    # Number of random starts, the first one included.
    restarts: Count = 3,
    # What the steps maximise.
    loss: Literal["margin", "cross_entropy"] = "margin",
    # Which iterate of a start counts: the last one or that of largest margin loss.
    iterate: Iterate = "worst",
    # Leave images as they are that bounds alone certify: no attack breaks them.
    skip_certified: bool = False,
) -> Iterator[AttackOutput]:
    """Yield each image's iterate of largest margin loss over all starts, at each step count.

    The images are `[E, N, C, H, W]`. Each step count n is an attack of its own: from a uniform
    start in the ball, step k = 0, ..., n - 1 has the size eps * (1 - k / n). A later start
    attacks only the images that are still classified correctly.

    Extras, `[E, N]`:
    - `last_is_correct`: the last iterate of the first start is classified correctly.
    - `grad_linf`: largest absolute entry of the gradient of the image's cross-entropy at the
      clean image; NaN if an entry is.
    - `is_certified`, with `skip_certified` only: the image was not attacked.

    Raises IrpipeError if `skip_certified` is set for an architecture without proofs.
    """
    images = batch.images
    shape = (len(eps), *images.shape)
    # One row per eps and image: [E * N, ...].
    row_eps = torch.tensor(eps, dtype=images.dtype, device=images.device)
    row_eps = row_eps.repeat_interleave(len(images)).view(-1, 1, 1, 1)
    clean = images.expand(shape).flatten(0, 1)
    labels = batch.labels.repeat(len(eps))
    extras = {"grad_linf": _gradient_linf(batch).expand(shape[:2])}
    is_certified = certified_by_bounds(batch, eps, skip_certified).flatten()
    if skip_certified:
        extras["is_certified"] = is_certified.view(shape[:2])
    counts = sorted(set(steps))
    row_bytes = partial(gradient_bytes, batch.folded, images[:1])
    with progress(batch.progress_label, len(counts) * restarts, unit="starts") as advance:
        for count in counts:
            run = partial(_margin_pgd, batch, norm, count, loss, iterate)
            worst = clean.clone()
            margin = torch.full_like(labels, -math.inf, dtype=torch.float32)
            last_is_correct = torch.ones_like(is_certified)
            for restart in range(restarts):
                start = _random_start(batch, norm, clean, row_eps)
                rows = torch.nonzero((margin <= 0) & ~is_certified)[:, 0]
                if len(rows):  # The draw is made also if no image is left.
                    columns = start[rows], clean[rows], row_eps[rows], labels[rows]
                    outputs = map_row_chunks(run, *columns, row_bytes=row_bytes)
                    point, point_margin, is_correct = outputs
                    new = _worse(worst[rows], margin[rows], point, point_margin)
                    worst[rows], margin[rows] = new
                    if restart == 0:
                        last_is_correct[rows] = is_correct
                advance()
            extras["last_is_correct"] = last_is_correct.view(shape[:2])
            yield AttackOutput(count, worst.view(shape), extras=extras)


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    return int(3 * n_eps * options["restarts"] * sum(set(options["steps"])))


def _random_start(batch: AttackBatch, norm: EpsNorm, clean: Tensor, eps: Tensor) -> Tensor:
    """Draw points of the balls around the rows `clean`; one draw per image serves all eps."""
    noise = random_in_ball(batch.rng, norm, batch.images).to(clean.dtype)
    n_eps = len(clean) // len(batch.images)
    change = project(eps * noise.repeat(n_eps, 1, 1, 1), eps, norm)
    return (clean + change).clamp(0, 1)


def _margin_pgd(
    batch: AttackBatch,
    norm: EpsNorm,
    n_steps: int,
    loss: str,
    iterate: Iterate,
    start: Tensor,
    clean: Tensor,
    eps: Tensor,
    labels: Tensor,
) -> list[Tensor]:
    """Take `n_steps` steps from `start` `[m, C, H, W]`.

    Return the iterate that counts, its margin loss `[m]`, and whether the last iterate is
    classified correctly `[m]`.
    """

    def one_step(
        point: Tensor, worst: Tensor, worst_margin: Tensor, step_size: Tensor
    ) -> list[Tensor]:
        """The next iterate, and the worst one up to `point` with its margin loss."""
        # The pass that gives the gradient also gives the margin loss.
        margins: list[Tensor] = []

        def objective(points: Tensor) -> Tensor:
            """The loss to ascend; it also keeps the margins."""
            logits = batch.folded(points)
            margin = margin_loss(logits, labels)
            margins.append(nan_to_inf(margin.detach()))
            if loss == "margin":
                return margin.sum()
            return F.cross_entropy(logits, labels, reduction="sum")

        gradient = objective_gradient(objective, point)
        new = ball_update(clean, eps, step_size, norm)(point, gradient)
        if iterate == "worst":
            worst, worst_margin = _worse(worst, worst_margin, point, margins[0])
        return [new, worst, worst_margin]

    take_step = graphed(one_step, start.device)
    lowest = torch.full_like(labels, -math.inf, dtype=torch.float32)
    point, worst, worst_margin = start, start, lowest
    for step in range(n_steps):
        step_size = eps * (1 - step / n_steps)
        point, worst, worst_margin = take_step(point, worst, worst_margin, step_size)
        if step == 0:
            worst_margin = lowest  # The start is no iterate.
    last_margin = image_margin_loss(batch.folded, point, labels)
    worst, worst_margin = _worse(worst, worst_margin, point, last_margin)
    return [worst, worst_margin, last_margin <= 0]


def _worse(
    images: Tensor, margin: Tensor, new_images: Tensor, new_margin: Tensor
) -> tuple[Tensor, Tensor]:
    """For each image the version of larger margin loss, `[m, C, H, W]`, and that loss, `[m]`."""
    is_worse = new_margin > margin
    worse_images = torch.where(is_worse.view(-1, 1, 1, 1), new_images, images)
    return worse_images, torch.where(is_worse, new_margin, margin)


def _gradient_linf(batch: AttackBatch) -> Tensor:
    """Largest absolute entry of the gradient of each image's own cross-entropy, `[N]`."""

    def largest(images: Tensor, labels: Tensor) -> list[Tensor]:
        def loss(points: Tensor) -> Tensor:
            return F.cross_entropy(batch.folded(points), labels, reduction="sum")

        return [objective_gradient(loss, images).abs().flatten(1).amax(dim=1)]

    return map_fitting_rows(largest, batch.images, batch.labels)[0]
