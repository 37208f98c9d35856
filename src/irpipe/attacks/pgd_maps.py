"""Maps of images before and after PGD, and their rank correlation (Figure 1, C.5 I12)."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import Update, linf_sign_update
from irpipe.ascent.snapshots import gradient_ascent_snapshots
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.interpretability.interpreters import interpret
from irpipe.interpretability.kendall import kendall
from irpipe.option_types import (
    Count,
    Eps,
    FigureInterpreters,
    IgRule,
    Index,
    Indices,
    InterpreterVariant,
    Positive,
)

PROTOCOL = ("C.3 T7", "C.4 P1", "C.5 I12")


def attack(
    batch: AttackBatch,
    *,
    # Figure 1's caption: 10 steps, eps 0.02 (C.5 I12).
    pgd_eps: Eps = 0.02,
    steps: Count = 10,
    # The released code's step size (C.4 P1).
    step_size: Positive = 0.01,
    # The class that PGD aims at. None means that PGD only leaves the true class.
    target_class: Index | None = None,
    # Whose maps; the default is Figure 1's.
    interpreters: FigureInterpreters = ["cam", "gradcampp", "ig"],  # noqa: B006
    # The maps as the released code or as the interpreters' authors have them (C.3 T7, C.3 T13).
    interpreter_variant: InterpreterVariant = "released",
    # Terms of the sum of integrated gradients (C.3 T7).
    ig_steps: Count = 100,
    # How to compute that sum: at the few points of a Gauss rule, or term by term (C.3 T7).
    ig_rule: IgRule = "quadrature",
    # Positions of the images in the test set. None means that `seed` draws `images` of them.
    indices: Indices | None = None,
    images: Count = 4,
    batch_size: Count = 4,
) -> Iterator[AttackOutput]:
    """Yield the clean images and the same after PGD, `[2, N, C, H, W]`.

    Extras, `[2, N, ...]`:
    - image: the pixels;
    - target: the class that the network prefers after PGD, the true class left out;
    - cam, gradcampp, ig, as in `interpreters`: maps `[2, N, 2, ...]` of the true class and of
      `target`;
    - kendall_tau_cam and so on: Kendall's tau-b between each map and the clean one,
      `[2, N, 2]`, over all entries of the map (of IG: over all colours);
    - tau_defined_cam and so on: whether tau exists, `[2, N, 2]`.
    """
    adversarial = _pgd(batch, pgd_eps, steps, step_size, target_class)
    points = torch.stack([batch.images, adversarial])
    with torch.no_grad():
        logits = batch.network(adversarial.float())
        target = logits.scatter(1, batch.labels[:, None], -torch.inf).argmax(dim=1)
    classes = torch.stack([batch.labels, target], dim=1)
    extras = {"image": points.float(), "target": target.expand(2, -1)}
    for kind in interpreters:
        maps = torch.stack(
            [
                interpret(
                    batch.folded,
                    point.float(),
                    kind,
                    classes,
                    variant=interpreter_variant,
                    ig_steps=ig_steps,
                    ig_rule=ig_rule,
                )
                for point in points
            ]
        )
        entries = maps.flatten(3).flatten(1, 2)  # [2, N * 2, entries]
        tau, is_defined = kendall(entries[0], entries)
        extras[kind] = maps
        extras[f"kendall_tau_{kind}"] = tau.view(2, -1, 2)
        extras[f"tau_defined_{kind}"] = is_defined.view(2, -1, 2)
    bounds = torch.tensor([0, pgd_eps], dtype=torch.float64, device=adversarial.device)
    max_distance = bounds[:, None].expand(-1, len(adversarial))
    yield AttackOutput(steps, points, max_distance, extras)


def _pgd(
    batch: AttackBatch, eps: float, steps: int, step_size: float, target_class: int | None
) -> Tensor:
    """The batch's images `[N, C, H, W]` after PGD towards `target_class`.

    With None, PGD leads away from the true class.
    """
    classes, sign = batch.labels, 1
    if target_class is not None:
        classes, sign = torch.full_like(batch.labels, target_class), -1

    def objective(points: Tensor, rows: Tensor) -> Tensor:
        total = F.cross_entropy(batch.folded(points), classes[rows], reduction="sum")
        return sign * total / len(classes)

    def make_update(rows: Tensor) -> Update:
        return linf_sign_update(batch.images[rows], eps, step_size)

    snapshots = gradient_ascent_snapshots(
        batch.images, objective, make_update, [steps], batch.progress_label
    )
    ((_, last),) = snapshots
    return last
