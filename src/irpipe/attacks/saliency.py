"""Saliency maps before and after an attack, and how alike they are (Figure 1, protocol C.5 I12)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import Case, ascend, sign_steps
from irpipe.attacks import Outcome
from irpipe.maps.interpret import interpret
from irpipe.maps.kendall import kendall
from irpipe.quantities import Count, Index, Interpreter, Places, Positive, Radius, Variant

KINDS: tuple[Interpreter, ...] = ("cam", "gradcampp", "ig")


def attack(
    case: Case,
    *,
    radius: Radius = 0.02,  # Figure 1's caption, C.5 I12
    steps: Count = 10,  # Figure 1's caption, C.5 I12
    step_size: Positive = 0.01,  # C.4 P1
    target: Index | None = None,  # class that the attack aims at; none: away from the true one
    variant: Variant = "code",  # of the interpreters, C.3 T7, T13
    points: Count = 100,  # of integrated gradients, C.3 T7
    places: Places | None = None,  # of the images in the test set; none: as many as `images` says, drawn by `seed`
    images: Count = 4,
    batch: Count = 4,
) -> Iterator[Outcome]:
    """Yield the images and the same after projected gradient descent, `[2, N, C, H, W]`.

    The record, `[2, N, ...]`: `image`, the pixels; `target`, the other class: what the attacked image is taken for,
    where that is still the true class the runner-up; `cam`, `gradcampp` and `ig`, maps `[2, N, 2, ...]` for the true
    and the other class; `tau_cam` and so on, Kendall's tau-b between a clean image's map and this one (all values of
    the raw map, for the integrated gradients those of all colours), and `defined_cam` and so on, whether there is one.
    """
    moved = _attacked(case, radius, steps, step_size, target)
    found = torch.stack([case.images, moved])
    with torch.no_grad():
        others = case.network(moved.float()).scatter(1, case.labels[:, None], -torch.inf)
    other = others.argmax(dim=1)
    pair = torch.stack([case.labels, other], dim=1)
    extra = {"image": found.float(), "target": other.expand(2, -1)}
    for kind in KINDS:
        maps = [interpret(case.folded, x.float(), kind, pair, variant=variant, points=points) for x in found]
        flat = torch.stack(maps).flatten(3).flatten(1, 2)
        tau, defined = kendall(flat[0], flat)
        extra |= {kind: torch.stack(maps), f"tau_{kind}": tau.view(2, -1, 2), f"defined_{kind}": defined.view(2, -1, 2)}
    bound = torch.tensor([0, radius], dtype=torch.float64, device=moved.device)[:, None].expand(-1, len(moved))
    yield Outcome(steps, found, bound, extra)


def _attacked(case: Case, radius: float, steps: int, step_size: float, target: int | None) -> Tensor:
    aim = case.labels if target is None else torch.full_like(case.labels, target)
    sign = 1 if target is None else -1

    def objective(images: Tensor) -> Tensor:
        return sign * F.cross_entropy(case.folded(images), aim)

    *_, last = ascend(case.images, objective, sign_steps(case.images, radius, step_size), steps, case.label)
    return last
