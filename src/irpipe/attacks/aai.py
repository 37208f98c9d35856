"""Attack against interpretability: change the maps, keep the prediction (paper eq (7), C.6-2)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import Update, linf_sign_update, random_perturbation
from irpipe.ascent.snapshots import gradient_ascent_snapshots
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._margin_loss import margin_loss
from irpipe.errors import NotApplicableError
from irpipe.interpretability.discrepancy import distance
from irpipe.interpretability.interpreters import interpret
from irpipe.interpretability.kendall import kendall
from irpipe.option_types import (
    Count,
    EpsList,
    IgRule,
    Interpreter,
    MapLoss,
    NotNegative,
    Positive,
)

PROTOCOL = ("C.5 I15", "C.6-2")


# The defaults are the recipe of C.6-2.
def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    interpreter: Interpreter = "cam",
    # How to compute the sum of integrated gradients (C.3 T7).
    ig_rule: IgRule = "quadrature",
    # The change of the maps that the attack maximises; `_make_map_loss` has the formulas.
    loss: MapLoss = "topk",
    # The loss `topk` lowers so many of the clean map's largest entries.
    top_k: Count = 8,
    steps: Count = 200,
    step_size: Positive = 0.01,
    random_start: bool = True,
    # lambda of paper eq (7). The released code lacks the hinge (C.6-2).
    hinge_weight: NotNegative = 0,
    # Where the prediction wins by more than kappa, the hinge is constant. Paper eq (7) has 0.
    kappa: NotNegative = 0,
    images: Count = 200,
) -> Iterator[AttackOutput]:
    """Yield the last iterate, `[E, N, C, H, W]`, at `steps`.

    The attack maximises paper eq (7), for the map loss D that `loss` names:

        D(x, x') - hinge_weight * max(max_{j != t} f_j(x') - f_t(x'), -kappa)

    t is the class that the network predicts for the clean image x.
    """
    if batch.offset == 0:  # The maps of all images are of one size.
        require_applicable(batch, interpreter=interpreter, ig_rule=ig_rule, loss=loss, top_k=top_k)
    clean = batch.images.repeat(len(eps), 1, 1, 1)  # one row per eps and image
    start, row_eps = _start(batch, eps, images if random_start else None)
    maps_of = partial(interpret, kind=interpreter, ig_rule=ig_rule)
    objective = _make_objective(batch, len(eps), maps_of, loss, top_k, hinge_weight, kappa)

    def make_update(rows: Tensor) -> Update:
        return linf_sign_update(clean[rows], row_eps[rows], step_size)

    snapshots = gradient_ascent_snapshots(
        start, objective, make_update, [steps], batch.progress_label
    )
    for count, iterates in snapshots:
        adversarial = iterates.view(len(eps), *batch.images.shape).to(clean.dtype)
        yield AttackOutput(count, adversarial)


def require_applicable(
    batch: AttackBatch, *, interpreter: Interpreter, ig_rule: IgRule, loss: MapLoss, top_k: Count
) -> None:
    """Raise NotApplicableError if the maps have fewer entries than `topk` is to lower."""
    if loss != "topk":
        return
    image, label = batch.images[:1].float(), batch.labels[:1]
    with torch.no_grad():
        maps = interpret(batch.folded, image, interpreter, label[:, None], ig_rule=ig_rule)
    if top_k > maps.numel():
        raise NotApplicableError(
            f"attack option top_k: {top_k}, but the maps have {maps.numel()} entries"
        )


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    return int(3 * n_eps * options["steps"] * (2 if options["hinge_weight"] else 1))


def _start(batch: AttackBatch, eps: EpsList, n_targets: int | None) -> tuple[Tensor, Tensor]:
    """Starting points `[E * N, C, H, W]` and eps `[E * N, 1, 1, 1]`, one row per eps and image.

    If `n_targets` is None, start at the clean images; else at random in the ball. One draw
    serves all eps. The released code draws `n_targets` targets first and does not use them
    (C.6-2), so they are drawn here too.
    """
    clean = batch.images
    shape = (len(eps), *clean.shape)
    start = clean.expand(shape)
    eps_column = torch.tensor(eps, dtype=torch.float64, device=clean.device).view(-1, 1, 1, 1, 1)
    if n_targets is not None:
        if batch.offset == 0:
            batch.rng.randint(len(batch.network.head) - 1, size=n_targets)
        noise = random_perturbation(batch.rng, "uniform", 1.0, clean)
        start = (start + eps_column * noise).clamp(0, 1)
    row_eps = eps_column.to(clean.dtype).expand(*shape[:2], 1, 1, 1)
    return start.flatten(0, 1), row_eps.flatten(0, 1)


def _make_objective(
    batch: AttackBatch,
    n_eps: int,
    maps_of: Callable[..., Tensor],
    loss: MapLoss,
    top_k: int,
    hinge_weight: float,
    kappa: float,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return paper eq (7) as a function of points `[m, C, H, W]` and their rows `[m]`."""
    with torch.no_grad():
        clean = batch.images.float()
        logits = batch.folded(clean)
        classes = batch.labels[:, None]
        if loss == "two_class":
            runner_up = logits.scatter(1, classes, -torch.inf).argmax(dim=1, keepdim=True)
            classes = torch.cat([classes, runner_up], dim=1)
        clean_maps = maps_of(batch.folded, clean, classes=classes)
        map_loss = _make_map_loss(loss, clean_maps, top_k, n_eps)
    row_classes = classes.repeat(n_eps, 1)
    row_prediction = logits.argmax(dim=1).repeat(n_eps)

    def objective(points: Tensor, rows: Tensor) -> Tensor:
        """Return eq (7), summed over `points` `[m, C, H, W]`, which belong to `rows` `[m]`."""
        maps = maps_of(batch.folded, points, classes=row_classes[rows])
        total = map_loss(maps, rows).sum()
        if hinge_weight:
            hinge = margin_loss(batch.folded(points), row_prediction[rows], kappa)
            total = total - hinge_weight * hinge.sum()
        return total

    return objective


def _make_map_loss(
    loss: MapLoss, clean_maps: Tensor, top_k: int, n_eps: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return D(maps, rows) `[m]`: how much the maps `[m, K, ...]` of `rows` `[m]` have changed.

    `clean_maps` is `[N, K, ...]`; row i belongs to clean image i mod N.

    - `topk`: minus the sum of the entries that are the `top_k` largest of the clean map (C.6-2).
    - `mass_center`: distance in entries that the centre of mass has moved (Ghorbani et al.,
      2019, but see `_mass_center`).
    - `two_class`: l1 discrepancy of paper eq (4), for the true class and the best other class of
      the clean image.
    - `targeted`: minus the mean l1 distance to max + min - m for the clean map m. The
      correlation of that map with m is -1.
    """
    if loss == "topk":
        largest = clean_maps.flatten(1).topk(top_k, dim=1).indices.repeat(n_eps, 1)
        return lambda maps, rows: -maps.flatten(1).gather(1, largest[rows]).sum(dim=1)
    if loss == "mass_center":
        center = _mass_center(clean_maps).repeat(n_eps, 1)
        return lambda maps, rows: (_mass_center(maps) - center[rows]).norm(dim=1)
    reference, sign = clean_maps, 1
    if loss == "targeted":
        reference, sign = _inverted(clean_maps), -1
    reference = reference.repeat(n_eps, *[1] * (clean_maps.dim() - 1))
    return lambda maps, rows: sign * distance(maps, reference[rows], "l1").mean(dim=1)


def _mass_center(maps: Tensor) -> Tensor:
    """Row and column of the centre of mass of each image's map `[m, K, ..., h, w]`, `[m, 2]`.

    An entry's mass is what it exceeds the map's least entry by, since entries may be negative;
    those of Ghorbani et al. are not. The centre of a constant map is 0, 0.
    """
    plane = maps.flatten(1, -3).sum(dim=1)  # [m, h, w]
    mass = plane - plane.amin(dim=(1, 2), keepdim=True)
    total = mass.sum(dim=(1, 2), keepdim=True)
    share = mass / total.clamp(min=torch.finfo(mass.dtype).tiny)
    row_index, column_index = (
        torch.arange(size, device=maps.device, dtype=maps.dtype) for size in plane.shape[1:]
    )
    return torch.stack([share.sum(dim=2) @ row_index, share.sum(dim=1) @ column_index], dim=1)


def _inverted(maps: Tensor) -> Tensor:
    """Each image's maps m turned into max + min - m."""
    flat = maps.flatten(1)
    inverted = flat.amax(dim=1, keepdim=True) + flat.amin(dim=1, keepdim=True) - flat
    return inverted.view_as(maps)


def metrics(
    batch: AttackBatch,
    images: Tensor,
    *,
    interpreter: Interpreter = "cam",
    ig_rule: IgRule = "quadrature",
) -> dict[str, Tensor]:
    """Compare images `[E, N, C, H, W]` with the clean ones by the network itself: arrays `[E, N]`.

    - `kendall_tau`: Kendall's tau-b between the maps of the true class.
    - `tau_defined`: neither map is constant; else tau is 0 (C.5 I15).
    - `prediction_unchanged`: the prediction is that of the clean image, correct or not (C.6-2).
    """
    network = batch.network
    classes = batch.labels[:, None]
    maps_of = partial(interpret, kind=interpreter, classes=classes, ig_rule=ig_rule)
    with torch.no_grad():
        clean_maps = maps_of(network, batch.images.float()).flatten(1)
        maps = [maps_of(network, part.float()).flatten(1) for part in images]
        clean_prediction = network(batch.images.float()).argmax(dim=1)
        prediction = [network(part.float()).argmax(dim=1) for part in images]
    tau, is_defined = kendall(clean_maps, torch.stack(maps))
    return {
        "kendall_tau": tau,
        "tau_defined": is_defined,
        "prediction_unchanged": torch.stack(prediction) == clean_prediction,
    }
