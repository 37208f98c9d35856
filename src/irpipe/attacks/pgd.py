"""Projected gradient descent on the cross-entropy, untargeted (C.4)."""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import Update
from irpipe.ascent.norms import ball_update, random_in_ball
from irpipe.ascent.snapshots import gradient_ascent_snapshots
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.networks.folded import FoldedNetwork
from irpipe.option_types import EpsList, EpsNorm, GradDtype, Positive, StepCounts

PROTOCOL = ("C.4", "C.4 P1", "C.4 P8")
NORMS = ("linf", "l2", "l1")


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    steps: StepCounts = [1, 10, 100, 200],  # noqa: B006
    # In which eps bounds the change. The paper's is l-inf.
    norm: EpsNorm = "linf",
    # C.4 P1: 0.01 at every eps and on every data set.
    step_size: Positive = 0.01,
    # If set, steps of step_size_factor * eps / steps replace those of `step_size` (C.4 P1).
    step_size_factor: Positive | None = None,
    # C.4 P8: the paper's evaluation starts at the clean image.
    random_start: bool = False,
    # dtype of the network that gives the gradients. bfloat16 moves some accuracies by one or two
    # images of 200.
    grad_dtype: GradDtype = "float32",
) -> Iterator[AttackOutput]:
    """Yield the last iterate, `[E, N, C, H, W]`, at each step count.

    With `step_size`, one trajectory per eps passes through all step counts. With
    `step_size_factor`, each step count has a trajectory of its own.
    """
    images = batch.images
    eps_column = torch.tensor(eps, dtype=images.dtype, device=images.device).view(-1, 1, 1, 1, 1)
    point = images.expand(len(eps), *images.shape)
    if random_start:
        noise = random_in_ball(batch.rng, norm, images).to(images.dtype)
        point = (point + eps_column * noise).clamp(0, 1)
    network = batch.folded if grad_dtype == "float32" else _bfloat16_network(batch)
    run = partial(_pgd_iterates, batch, network, norm)
    counts = sorted(set(steps))
    if step_size_factor is not None:
        for count in counts:
            step_sizes = step_size_factor * eps_column / count
            for _, iterates in run(point, eps_column, step_sizes, [count], batch.progress_label):
                yield AttackOutput(count, iterates)
        return
    # On a GPU each stretch would be captured as a CUDA graph, which takes longer than its steps.
    can_share = norm == "linf" and not random_start and images.device.type == "cpu"
    begin = 0
    for end, leader in _shared_trajectories(eps, step_size if can_share else 0, counts[-1]):
        leaders, position = torch.unique(torch.tensor(leader), return_inverse=True)
        stops = [count - begin for count in {*counts, end} if begin < count <= end]
        label = batch.progress_label if end == counts[-1] else ""
        for stop, iterates in run(point[leaders], eps_column[leaders], step_size, stops, label):
            if begin + stop in counts:
                yield AttackOutput(begin + stop, iterates[position])
        point = iterates[position]
        begin = end


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    counts = set(options["steps"])
    is_shared = options["step_size_factor"] is None
    return int(3 * n_eps * (max(counts) if is_shared else sum(counts)))


def _shared_trajectories(
    eps: Sequence[float], step_size: float, last_step: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield `(end, leader)` for each stretch of steps on which some eps share a trajectory.

    From the same start, PGD takes the same steps at every eps until the smaller ball stops
    it. So each eps follows the largest one for a while: up to step `end`, `eps[i]` is on the
    trajectory of `eps[leader[i]]`.

    After k steps PGD has moved at most k * step_size. It is inside the ball for
    k <= eps / step_size; half a step is left as a margin, since rounding may cross the border.
    With a step size of 0, nothing is shared.
    """
    largest = max(range(len(eps)), key=eps.__getitem__)
    shared_steps = [0] * len(eps)
    for i, eps_i in enumerate(eps):
        if step_size and i != largest:
            shared_steps[i] = int(eps_i / step_size - 0.5)
    ends = {min(steps, last_step) for steps in (*shared_steps, last_step)} - {0}
    begin = 0
    for end in sorted(ends):
        yield end, [i if steps <= begin else largest for i, steps in enumerate(shared_steps)]
        begin = end


def _bfloat16_network(batch: AttackBatch) -> Callable[[Tensor], Tensor]:
    """The network in bfloat16, but with logits in float32."""
    folded = FoldedNetwork(copy.deepcopy(batch.network).bfloat16(), batch.folded.shape)
    return lambda images: folded(images.bfloat16()).float()


def _pgd_iterates(
    batch: AttackBatch,
    network: Callable[[Tensor], Tensor],
    norm: EpsNorm,
    start: Tensor,
    eps: Tensor,
    step_size: float | Tensor,
    step_counts: Sequence[int],
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """Yield `(step count, iterates)` of PGD from `start`, which is `[E, N, C, H, W]` like them.

    `eps` is `[E, 1, 1, 1, 1]`; `step_size` is a number or like `eps`.
    """
    shape = start.shape

    def one_per_row(values: Tensor) -> Tensor:
        """Expand `[E, 1, 1, 1, 1]` or a number to one row per eps and image, `[E * N, 1, 1, 1]`."""
        return values.expand(*shape[:2], 1, 1, 1).flatten(0, 1)

    clean = batch.images.expand(shape).flatten(0, 1)
    labels = batch.labels.repeat(shape[0])
    row_eps = one_per_row(eps)
    # A number becomes float32, the dtype of the sign of the gradient.
    row_step_size = one_per_row(torch.as_tensor(step_size, device=start.device))

    def loss(points: Tensor, rows: Tensor) -> Tensor:
        # The mean over the images of one eps: its scale decides at which rows a vanishing
        # gradient underflows to zero.
        total = F.cross_entropy(network(points), labels[rows], reduction="sum")
        return total / len(batch.labels)

    def make_update(rows: Tensor) -> Update:
        return ball_update(clean[rows], row_eps[rows], row_step_size[rows], norm)

    snapshots = gradient_ascent_snapshots(
        start.flatten(0, 1), loss, make_update, step_counts, label
    )
    for count, iterates in snapshots:
        yield count, iterates.view(shape)
