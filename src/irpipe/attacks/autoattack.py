"""AutoAttack (Croce and Hein, ICML 2020), its standard version, for the l-inf or the l2 norm.

Four attacks run one after the other, each on the images that are still classified correctly:
APGD on the cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square.

The attacks are the ports of torchattacks, with the settings of the authors' package, pyautoattack
(github.com/fra31/auto-attack). A test compares which images fall. The settings:

- APGD: one start, 100 steps, rho 0.75; the targeted one aims at each of the 9 other classes;
- FAB: one start, 100 steps, alpha_max 0.1, eta 1.05, beta 0.9, also at each of the 9 others;
- Square: 5,000 queries, p_init 0.8, with a schedule that is not rescaled to the queries.

(The ensemble of torchattacks takes 10 steps and rescales the schedule.) These differences remain:

- each attack has its own seed;
- the random numbers of Square for an image do not depend on which other images are left;
- FAB keeps the nearest image of all classes, instead of stopping at the first class that wins;
- on a data set without 10 classes, all other classes are targets. The DLR loss needs 4 classes, so
  the targeted APGD is left out for fewer.

torchattacks comes with the optional dependencies `irpipe[stress]`.
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
from irpipe.attacks._torchattacks import (
    TORCHATTACKS_NORMS,
    SearchResults,
    TorchModule,
    import_torchattacks,
    square_class,
)
from irpipe.errors import NotApplicableError
from irpipe.networks.folded import FoldedNetwork
from irpipe.option_types import AutoAttackMembers, AutoAttackNorm, Count, EpsList
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import map_row_chunks

PROTOCOL: tuple[str, ...] = ()
NORMS = tuple(TORCHATTACKS_NORMS)

# Takes eps and the indices `[m]` of images in the batch; returns their attacked versions.
Member = Callable[[float, Tensor], Tensor]
MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")
# Members that need more classes than two. The DLR loss divides by the difference of the largest
# logit and the mean of the third and fourth one.
MIN_CLASSES = {"apgd-t": 4}


def left_out(options: dict[str, Any], n_classes: int) -> list[str]:
    """Members of `attacks_to_run` that a network of so few classes cannot be attacked with."""
    names = options["attacks_to_run"]
    return [name for name in names if n_classes < MIN_CLASSES.get(name, 2)]


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # In which eps bounds the change. Square's draws in l2 depend on which images are left.
    norm: AutoAttackNorm = "linf",
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
    IrpipeError if torchattacks is missing, no member is left, or the network can have no proofs.
    """
    n_classes = len(batch.network.head)
    skipped = left_out({"attacks_to_run": attacks_to_run}, n_classes)
    if set(skipped) == set(attacks_to_run):
        raise NotApplicableError(
            f"attack option attacks_to_run: {', '.join(skipped)} needs "
            f"{MIN_CLASSES[skipped[0]]} classes, but the network has {n_classes}"
        )
    adversarial = batch.images.repeat(len(eps), 1, 1, 1, 1)
    # There is a seed for each eps and for each member of the standard version, so that a member's
    # random numbers do not depend on which others run.
    seeds = batch.rng.randint(2**31, size=(len(eps), len(MEMBERS))).tolist()
    broken_by = batch.labels.new_zeros(adversarial.shape[:2])
    is_certified = certified_by_bounds(batch, eps, skip_certified)
    options = {"attacks_to_run": attacks_to_run, "steps": steps, "n_queries": n_queries}
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


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    steps = options["steps"]
    per_eps = {
        "apgd-ce": 1 + 3 * (steps + 1),
        "apgd-t": 1 + (1 + 3 * (steps + 1)) * (n_classes - 1),
        "square": 3 + options["n_queries"],
    }
    skipped = left_out(options, n_classes)
    names = [name for name in options["attacks_to_run"] if name not in skipped]
    # One search of FAB serves all eps.
    fab = (2 + 4 * steps) * (n_classes - 1) if "fab-t" in names and n_eps else 0
    return int(fab + n_eps * sum(per_eps.get(name, 0) for name in names))


def _into_ball(attacked: Tensor, clean: Tensor, bound: float, norm: AutoAttackNorm) -> Tensor:
    """Undo what rounding added to the distance of a member's images."""
    if norm == "linf":
        return attacked.clamp((clean - bound).clamp(min=0), (clean + bound).clamp(max=1))
    eps = torch.full_like(clean[:, :1, :1, :1], bound)
    return (clean + project(attacked - clean, eps, norm)).clamp(0, 1)


def _seeded(
    batch: AttackBatch,
    module: TorchModule,
    name: str,
    norm: AutoAttackNorm,
    steps: int,
    n_queries: int,
    seed: int,
) -> Member:
    """Return a member that draws random numbers, all from `seed`.

    It leaves torch's generators as they are.
    """
    torchattacks = import_torchattacks()

    def run(bound: float, left: Tensor) -> Tensor:
        """Return what the member makes of the images with the indices `left` at eps = `bound`."""
        images, labels = batch.images[left].float(), batch.labels[left]
        options = {"norm": TORCHATTACKS_NORMS[norm], "eps": bound, "seed": seed, "n_restarts": 1}
        if name == "apgd-ce":
            member = torchattacks.APGD(module, steps=steps, loss="ce", **options)
        elif name == "apgd-t":
            n_classes = len(batch.network.head)
            member = torchattacks.APGDT(module, steps=steps, n_classes=n_classes, **options)
        else:
            with torch.no_grad():
                # If two logits are equal, torchattacks may count the image as misclassified.
                is_attacked = module(images).max(dim=1).indices == labels
            square = torchattacks.Square
            if norm == "linf":
                square = square_class(batch, left[is_attacked])
            member = square(module, n_queries=n_queries, resc_schedule=False, **options)
        with torch.random.fork_rng(devices=[left.device] if left.is_cuda else []):
            attacked: Tensor = member(images, labels)
        return attacked.detach()

    def run_once(bound: float, left: Tensor) -> Tensor:
        key = (norm, bound, n_queries, seed, batch.indices.tobytes())
        results = _SQUARE_RESULTS.setdefault(batch.folded, {})
        return results.setdefault(key, SearchResults(batch))(left, partial(run, bound))

    return run_once if name == "square" else run


# Results of Square, by network and by all else that decides them: `irpipe stress` runs Square
# within the ensemble and also alone, with the same seed.
_SQUARE_RESULTS: WeakKeyDictionary[FoldedNetwork, dict[Any, SearchResults]] = WeakKeyDictionary()


class _Fab:
    """FAB towards each other class.

    FAB looks for the nearest misclassified image and does not use eps. So one search per image
    serves all eps.
    """

    def __init__(
        self, batch: AttackBatch, module: TorchModule, norm: AutoAttackNorm, steps: int
    ) -> None:
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
            return map_row_chunks(self._search, images[unknown], labels[unknown])[0]

        nearest = self.nearest(left, search)
        distance = norms(nearest - images[left], self.norm)
        is_within = (distance <= bound).view(-1, 1, 1, 1)
        return torch.where(is_within, nearest, images[left])

    def _search(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """The nearest misclassified image over all target classes, else the clean image."""
        fab = import_torchattacks().FAB(
            self.module, norm=TORCHATTACKS_NORMS[self.norm], steps=self.steps, multi_targeted=True
        )
        nearest = images.clone()
        least_distance = torch.full_like(labels, math.inf, dtype=torch.float32)
        n_classes = len(self.batch.network.head)
        # Rank 2 is the class with the second largest logit, and so on.
        for rank in range(2, n_classes + 1):
            fab.target_class = rank
            attacked = fab.attack_single_run_targeted(images, labels)
            distance = norms(attacked - images, self.norm).to(least_distance.dtype)
            # FAB returns the clean image if it finds none.
            is_nearer = (distance > 0) & (distance < least_distance)
            nearest[is_nearer] = attacked[is_nearer]
            least_distance[is_nearer] = distance[is_nearer]
        return [nearest]
