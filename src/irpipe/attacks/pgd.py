"""Projected gradient descent on the cross-entropy, untargeted (protocol C.4)."""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, Update, attain, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.models import Folded
from irpipe.quantities import Counts, Positive, Precision, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    steps: Counts = [1, 10, 100, 200],  # noqa: B006 (read, never changed)
    step_size: Positive = 0.01,  # at every radius and on every data set, C.4 P1
    relative: Positive | None = None,  # instead: steps of relative * eps / steps, C.4 P1
    random_start: bool = False,  # C.4 P8
    precision: Precision = "float32",  # of the network that gives the gradients; bfloat16 moves cells
) -> Iterator[Outcome]:
    """Yield the last iterate, `[E, N, C, H, W]`, at every step count.

    With the fixed step, one trajectory a radius passes through all step counts, and radii share it until they part;
    all run in one batch. With relative steps each step count is a trajectory of its own.
    """
    radii = torch.tensor(eps, dtype=case.images.dtype, device=case.images.device).view(-1, 1, 1, 1, 1)
    point = case.images.expand(len(eps), *case.images.shape)
    if random_start:
        point = (point + radii * noise(case.rng, "uniform", 1.0, case.images).to(point.dtype)).clamp(0, 1)
    counts = sorted(set(steps))
    network: Callable[[Tensor], Tensor] = case.folded if precision == "float32" else _coarse(case)
    if relative is not None:
        for count in counts:
            for _, images in _climb(case, network, point, radii, relative * radii / count, [count], case.label):
                yield Outcome(count, images)
        return
    begin = 0
    apart = random_start or case.images.device.type != "cpu"  # to record a leg would take a GPU longer than its steps
    for end, leaders in _legs(eps, 0 if apart else step_size, counts[-1]):
        own, place = torch.unique(torch.tensor(leaders), return_inverse=True)
        stops = [count - begin for count in {*counts, end} if begin < count <= end]
        label = case.label if end == counts[-1] else ""
        for stop, images in _climb(case, network, point[own], radii[own], step_size, stops, label):
            if begin + stop in counts:
                yield Outcome(begin + stop, images[place])
        point, begin = images[place], end


def _legs(eps: Sequence[float], step: float, last: int) -> Iterator[tuple[int, list[int]]]:
    """Yield where each part of `last` steps ends, and for each radius the number of the one whose trajectory it is on.

    A radius follows the widest one for as long as all steps together stay within it, by half a step at least, as
    rounding may cross a border. A step of 0: each is on its own.
    """
    widest, begin = max(range(len(eps)), key=eps.__getitem__), 0
    free = [int(radius / step - 0.5) if step and number != widest else 0 for number, radius in enumerate(eps)]
    for end in sorted({min(steps, last) for steps in (*free, last)} - {0}):
        yield end, [number if free[number] <= begin else widest for number in range(len(eps))]
        begin = end


def _coarse(case: Case) -> Callable[[Tensor], Tensor]:
    """The network in bfloat16; logits are float32."""
    folded = Folded(copy.deepcopy(case.network).bfloat16(), case.folded.shape)
    return lambda images: folded(images.bfloat16()).float()


def _climb(
    case: Case,
    network: Callable[[Tensor], Tensor],
    start: Tensor,
    radii: Tensor,
    size: float | Tensor,
    counts: Sequence[int],
    label: str,
) -> Iterator[tuple[int, Tensor]]:
    """Yield each step count with the iterates `[E, N, ...]` from `start`; `size` of a step: one, or one a radius."""
    shape = start.shape  # a row an image and radius
    centre, labels = case.images.expand(shape).flatten(0, 1), case.labels.repeat(shape[0])
    sizes = torch.as_tensor(size, device=start.device)  # one is in float32, as the gradient's signs are
    radii, sizes = (given.expand(*shape[:2], 1, 1, 1).flatten(0, 1) for given in (radii, sizes))

    def loss(images: Tensor, rows: Tensor) -> Tensor:
        # the mean over one radius' images: its scale decides where a vanishing gradient becomes zero
        return F.cross_entropy(network(images), labels[rows], reduction="sum") / len(case.labels)

    def update(rows: Tensor) -> Update:
        return sign_steps(centre[rows], radii[rows], sizes[rows])

    for count, images in attain(start.flatten(0, 1), loss, update, counts, label):
        yield count, images.view(shape)
