"""AutoAttack (Croce and Hein, ICML 2020), its standard version, for the l-inf, l2 or l1 norm.

Four attacks run one after the other, each on the images that are still classified correctly:
APGD on the cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square.

The attacks are those of the authors' package, pyautoattack (github.com/fra31/auto-attack), with
the settings of its standard version. Tests compare which images fall. The settings:

- APGD: one start, 100 steps, rho 0.75; the targeted one aims at each of the 9 other classes;
- in l1 (Croce and Hein, ICML 2021) APGD has five starts, the targeted one aims at 5 classes, and
  30% of the steps are at 3 eps, then 30% at 2 eps;
- FAB: one start, 100 steps, alpha_max 0.1, eta 1.05, beta 0.9, also at each of the 9 others;
- Square: 5,000 queries, p_init 0.8, with a schedule that is not rescaled to the queries.

These differences remain:

- each attack has its own seed;
- in l-inf, the random numbers of Square for an image do not depend on which images are left;
- FAB keeps the nearest image of all classes, instead of stopping at the first class that wins;
- on a data set without 10 classes, all other classes are targets (of APGD in l1, at most 5). The
  DLR loss needs 4 classes, so the targeted APGD is left out for fewer.

pyautoattack comes with the optional dependencies `irpipe[stress]`.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from irpipe.ascent.norms import norms, project
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._certified import certified_by_bounds
from irpipe.attacks._margin_loss import image_margin_loss
from irpipe.attacks._pyautoattack import (
    PYAUTOATTACK_NORMS,
    SILENT,
    SearchResults,
    TorchModule,
    import_pyautoattack,
    square_class,
)
from irpipe.errors import IrpipeError, NotApplicableError
from irpipe.networks.folded import FoldedNetwork
from irpipe.option_types import AutoAttackMembers, Count, EpsList, EpsNorm
from irpipe.runtime.memory import gradient_bytes, map_fitting_rows
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import map_row_chunks

PROTOCOL: tuple[str, ...] = ()
NORMS = tuple(PYAUTOATTACK_NORMS)

# Takes eps and the indices `[m]` of images in the batch; returns their attacked versions.
Member = Callable[[float, Tensor], Tensor]
MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
# Members that need more classes than two. The DLR loss divides by the difference of the largest
# logit and the mean of the third and fourth one.
MIN_CLASSES = {"apgd-t": 4}
# Of APGD in l1: starts on the cross-entropy, and classes that the targeted one aims at.
L1_STARTS = 5
L1_TARGETS = 5
MIN_L1_STEPS = 2  # One step at least is at a larger eps than the last one.


def left_out(options: dict[str, Any], n_classes: int) -> list[str]:
    """Members of `attacks_to_run` that a network of so few classes cannot be attacked with."""
    names = options["attacks_to_run"]
    return [name for name in names if n_classes < MIN_CLASSES.get(name, 2)]


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # In which eps bounds the change. Square's draws in l2 depend on which images are left.
    norm: EpsNorm = "linf",
    # The default is the standard version.
    attacks_to_run: AutoAttackMembers = ["apgd-ce", "apgd-t", "fab-t", "square"],  # noqa: B006
    # Steps of APGD and FAB, as in the authors' code.
    steps: Count = 100,
    # Queries of Square, as in the authors' code.
    n_queries: Count = 5000,
    # Leave images as they are that bounds alone certify: no attack breaks them.
    skip_certified: bool = False,
) -> Iterator[AttackOutput]:
    """Yield misclassified images where an attack found one, else the clean ones, at `steps`.

    The images are `[E, N, C, H, W]`. A clean image that is misclassified stays as it is.

    Extras: `broken_by` `[E, N]`, the number of the attack that won, counted from 1 in the order
    of `attacks_to_run`; 0 means none. Members that need more classes are left out, see `left_out`.
    With `skip_certified` also `is_certified` `[E, N]`, whether an image was not attacked. Raises
    IrpipeError if pyautoattack is missing, no member is left, the network can have no proofs, or
    APGD in l1 has one step.
    """
    n_classes = len(batch.network.head)
    options = {"attacks_to_run": attacks_to_run, "steps": steps, "n_queries": n_queries}
    options["norm"] = norm
    skipped = left_out(options, n_classes)
    _require_possible(options, n_classes)
    adversarial = batch.images.repeat(len(eps), 1, 1, 1, 1)
    # There is a seed for each eps and for each member of the standard version, so that a member's
    # random numbers do not depend on which others run.
    seeds = batch.rng.randint(2**31, size=(len(eps), len(MEMBERS))).tolist()
    broken_by = batch.labels.new_zeros(adversarial.shape[:2])
    is_certified = certified_by_bounds(batch, eps, skip_certified)
    total = n_passes(options, len(eps), n_classes)
    with progress(batch.progress_label, total, unit="passes") as advance:
        module = TorchModule(batch, advance)
        fab = _Fab(batch, module, norm, steps)
        for i, bound in enumerate(eps):
            for number, name in enumerate(attacks_to_run, 1):
                if name in skipped:
                    continue
                margin = image_margin_loss(batch.folded, adversarial[i], batch.labels)
                left = torch.nonzero((margin <= 0) & ~is_certified[i])[:, 0]
                if not len(left):
                    break
                seed = seeds[i][MEMBERS.index(name)]
                member: Member = fab
                if name != "fab-t":
                    member = _seeded(batch, module, name, norm, steps, n_queries, seed)
                attacked = member(bound, left).to(adversarial.dtype)
                attacked = _into_ball(attacked, batch.images[left], bound, norm)
                is_wrong = image_margin_loss(batch.folded, attacked, batch.labels[left]) > 0
                is_wrong &= attacked.isfinite().flatten(1).all(dim=1)  # A member may return NaN.
                adversarial[i, left[is_wrong]] = attacked[is_wrong]
                broken_by[i, left[is_wrong]] = number
            module.skip_to(n_passes(options, i + 1, n_classes))
    extras = {"broken_by": broken_by} | ({"is_certified": is_certified} if skip_certified else {})
    yield AttackOutput(steps, adversarial, extras=extras)


def _require_possible(options: dict[str, Any], n_classes: int) -> None:
    """Raise IrpipeError if no member can attack so few classes, or APGD has too few steps."""
    names = options["attacks_to_run"]
    skipped = left_out(options, n_classes)
    if set(skipped) == set(names):
        raise NotApplicableError(
            f"attack option attacks_to_run: {', '.join(skipped)} needs "
            f"{MIN_CLASSES[skipped[0]]} classes, but the network has {n_classes}"
        )
    has_apgd = not {"apgd-ce", "apgd-t"}.isdisjoint(names)
    if has_apgd and options["norm"] == "l1" and options["steps"] < MIN_L1_STEPS:
        raise IrpipeError(
            f"attack option steps: APGD in l1 needs at least {MIN_L1_STEPS}; "
            f"found {options['steps']}"
        )


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    steps = options["steps"]
    n_starts, n_stages = (L1_STARTS, 3) if options["norm"] == "l1" else (1, 1)
    n_targets = _n_targets(n_classes, options["norm"])
    per_start = 3 * (steps + n_stages)
    per_eps = {
        "apgd-ce": 1 + n_starts * per_start,
        "apgd-t": 1 + n_targets * (1 + per_start),
        "square": 3 + options["n_queries"],
    }
    skipped = left_out(options, n_classes)
    names = [name for name in options["attacks_to_run"] if name not in skipped]
    # One search of FAB serves all eps.
    fab = (2 + 4 * steps) * (n_classes - 1) if "fab-t" in names and n_eps else 0
    return int(fab + n_eps * sum(per_eps.get(name, 0) for name in names))


def _n_targets(n_classes: int, norm: EpsNorm) -> int:
    """How many classes the targeted APGD aims at."""
    return min(n_classes - 1, L1_TARGETS) if norm == "l1" else n_classes - 1


def _into_ball(attacked: Tensor, clean: Tensor, bound: float, norm: EpsNorm) -> Tensor:
    """Undo what rounding added to the distance of a member's images."""
    if norm == "linf":
        return attacked.clamp((clean - bound).clamp(min=0), (clean + bound).clamp(max=1))
    eps = torch.full_like(clean[:, :1, :1, :1], bound)
    return (clean + project(attacked - clean, eps, norm)).clamp(0, 1)


def _seeded(
    batch: AttackBatch,
    module: TorchModule,
    name: str,
    norm: EpsNorm,
    steps: int,
    n_queries: int,
    seed: int,
) -> Member:
    """Return a member that draws random numbers, all from `seed`.

    It leaves torch's generators as they are.
    """

    def run(bound: float, left: Tensor) -> Tensor:
        """Return what the member makes of the images with the indices `left` at eps = `bound`."""
        images, labels = batch.images[left].float(), batch.labels[left]
        options = {"norm": PYAUTOATTACK_NORMS[norm], "eps": bound, "seed": seed}
        if name == "square":
            # If two logits are equal, pyautoattack may count the image as misclassified.
            is_attacked = module(images).max(dim=1).indices == labels
            square = import_pyautoattack().Square
            if norm == "linf":
                square = square_class(batch, left[is_attacked])
            member = square(module, n_queries=n_queries, resc_schedule=False, **options)
        else:
            n_targets = _n_targets(len(batch.network.head), norm)
            member = _apgd(module, name, norm, n_targets, options | {"n_iter": steps})
        attacked: Tensor = member.perturb(images, labels)
        return attacked

    def run_alone(bound: float, left: Tensor) -> Tensor:
        devices = [left.device] if left.is_cuda else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            return run(bound, left)

    def search(bound: float, left: Tensor) -> Tensor:
        if norm != "linf":
            return run_alone(bound, left)
        return map_fitting_rows(lambda part: [run_alone(bound, part)], left)[0]

    def run_once(bound: float, left: Tensor) -> Tensor:
        key = (norm, bound, n_queries, seed, batch.indices.tobytes())
        if batch.folded not in _SQUARE_RESULTS:
            _SQUARE_RESULTS.clear()  # The images of another network would only take memory.
        results = _SQUARE_RESULTS.setdefault(batch.folded, {})
        return results.setdefault(key, SearchResults(batch))(left, partial(search, bound))

    return run_once if name == "square" else run_alone


def _apgd(
    module: TorchModule, name: str, norm: EpsNorm, n_targets: int, options: dict[str, Any]
) -> Any:
    """Return pyautoattack's APGD, or its targeted version, with the settings of the norm."""
    package = import_pyautoattack()
    options = options | {"use_largereps": norm == "l1", "logger": SILENT}
    if name == "apgd-ce":
        return package.APGD(module, n_restarts=L1_STARTS if norm == "l1" else 1, **options)
    return package.APGDT(module, n_target_classes=n_targets, **options)


# Results of Square for the last network, by all else that decides them: `irpipe stress` runs Square
# within the ensemble and also alone, with the same seed.
_SQUARE_RESULTS: WeakKeyDictionary[FoldedNetwork, dict[Any, SearchResults]] = WeakKeyDictionary()


class _Fab:
    """FAB towards each other class.

    FAB looks for the nearest misclassified image and does not use eps. So one search per image
    serves all eps.
    """

    def __init__(self, batch: AttackBatch, module: TorchModule, norm: EpsNorm, steps: int) -> None:
        self.batch = batch
        self.norm = norm
        self.module = module
        self.steps = steps
        self.nearest = SearchResults(batch)

    def __call__(self, bound: float, left: Tensor) -> Tensor:
        """The nearest misclassified image if it is within `bound`, else the clean image."""
        images = self.batch.images.float()
        labels = self.batch.labels

        def search(unknown: Tensor) -> Tensor:
            row_bytes = partial(gradient_bytes, self.batch.folded, images[:1])
            columns = images[unknown], labels[unknown]
            return map_row_chunks(self._search, *columns, row_bytes=row_bytes)[0]

        nearest = self.nearest(left, search)
        distance = norms(nearest - images[left], self.norm)
        is_within = (distance <= bound).view(-1, 1, 1, 1)
        return torch.where(is_within, nearest, images[left])

    def _search(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """The nearest misclassified image over all target classes, else the clean image."""
        fab = import_pyautoattack().FAB(
            self.module, norm=PYAUTOATTACK_NORMS[self.norm], n_iter=self.steps
        )
        nearest = images.clone()
        least_distance = torch.full_like(labels, math.inf, dtype=torch.float32)
        n_classes = len(self.batch.network.head)
        # Rank 2 is the class with the second largest logit, and so on.
        for rank in range(2, n_classes + 1):
            fab.target_class = rank
            attacked = fab.attack_single_run(images, labels, is_targeted=True)
            distance = norms(attacked - images, self.norm).to(least_distance.dtype)
            # FAB returns the clean image if it finds none.
            is_nearer = (distance > 0) & (distance < least_distance)
            nearest[is_nearer] = attacked[is_nearer]
            least_distance[is_nearer] = distance[is_nearer]
        return [nearest]
