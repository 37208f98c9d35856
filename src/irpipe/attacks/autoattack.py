"""AutoAttack (Croce and Hein, ICML 2020), its standard version, for the l-inf, l2 or l1 norm.

Four attacks run one after the other, each on the images that are still classified correctly:
APGD on the cross-entropy, APGD on the targeted DLR loss, targeted FAB, Square.

The attacks are those of the authors' package, pyautoattack (github.com/fra31/auto-attack), with
the settings of its standard version. Square in l-inf is our own and finds the same images. Tests
compare which images fall. The settings:

- APGD: one start, 100 steps, rho 0.75; the targeted one aims at each of the 9 other classes;
- in l1 (Croce and Hein, ICML 2021) APGD has five starts, the targeted one aims at 5 classes, and
  30% of the steps are at 3 eps, then 30% at 2 eps;
- FAB: one start, 100 steps, alpha_max 0.1, eta 1.05, beta 0.9, also at each of the 9 others;
- Square: 5,000 queries, p_init 0.8, with a schedule that is not rescaled to the queries.

These differences remain:

- each attack has its own seed;
- the random numbers for an image do not depend on which images are left, except those of Square
  in l1 and l2;
- FAB keeps the nearest image of all classes, instead of stopping at the first class that wins;
- on a data set without 10 classes, all other classes are targets (of APGD in l1, at most 5). The
  DLR loss needs 4 classes, so the targeted APGD is left out for fewer.

pyautoattack comes with the optional dependencies `irpipe[stress]`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from irpipe.ascent.norms import project
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._autoattack_members import L1_STARTS, MEMBERS, Member, n_apgd_targets
from irpipe.attacks._autoattack_search import Search
from irpipe.attacks._certified import certified_by_bounds
from irpipe.attacks._margin_loss import image_margin_loss
from irpipe.attacks._pyautoattack import PYAUTOATTACK_NORMS, TorchModule
from irpipe.errors import IrpipeError, NotApplicableError
from irpipe.option_types import AutoAttackMembers, Count, EpsList, EpsNorm
from irpipe.runtime.progress import progress

PROTOCOL: tuple[str, ...] = ()
NORMS = tuple(PYAUTOATTACK_NORMS)

# Members that need more classes than two. The DLR loss divides by the difference of the largest
# logit and the mean of the third and fourth one.
MIN_CLASSES = {"apgd-t": 4}
MIN_L1_STEPS = 2  # One step at least is at a larger eps than the last one.


def left_out(options: dict[str, Any], n_classes: int) -> list[str]:
    """Members of `attacks_to_run` that a network of so few classes cannot be attacked with."""
    names = options["attacks_to_run"]
    return [name for name in names if n_classes < MIN_CLASSES.get(name, 2)]


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # In which eps bounds the change.
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
    require_applicable(batch, attacks_to_run=attacks_to_run, norm=norm, steps=steps)
    # There is a seed for each eps and for each member of the standard version, so that a member's
    # random numbers do not depend on which others run.
    seeds = batch.rng.randint(2**31, size=(len(eps), len(MEMBERS)))
    is_certified = certified_by_bounds(batch, eps, skip_certified)
    is_correct = image_margin_loss(batch.folded, batch.images, batch.labels) <= 0
    adversarial = batch.images.repeat(len(eps), 1, 1, 1)
    broken_by = batch.labels.repeat(len(eps)) * 0
    left = torch.nonzero((is_correct & ~is_certified).flatten())[:, 0]
    total = n_passes(options, len(eps), n_classes)
    with progress(batch.progress_label, total, unit="passes") as advance:
        module = TorchModule(batch, advance)
        for number, name in enumerate(attacks_to_run, 1):
            if name in skipped or not len(left):
                continue
            member_seeds = seeds[:, list(MEMBERS).index(name)].tolist()
            search = Search(batch, module, norm, list(eps), member_seeds, steps, n_queries)
            attacked, is_wrong = _attack_rows(search, MEMBERS[name], left)
            adversarial[left[is_wrong]] = attacked[is_wrong]
            broken_by[left[is_wrong]] = number
            left = left[~is_wrong]
            done = options | {"attacks_to_run": attacks_to_run[:number]}
            module.skip_to(n_passes(done, len(eps), n_classes))
        module.skip_to(total)
    shape = is_certified.shape
    extras = {"broken_by": broken_by.view(shape)}
    extras |= {"is_certified": is_certified} if skip_certified else {}
    yield AttackOutput(steps, adversarial.view(*shape, *batch.images.shape[1:]), extras=extras)


def require_applicable(
    batch: AttackBatch, *, attacks_to_run: AutoAttackMembers, norm: EpsNorm, steps: Count
) -> None:
    """Raise NotApplicableError if no member can attack so few classes.

    Raises IrpipeError if APGD has too few steps.
    """
    n_classes = len(batch.network.head)
    skipped = left_out({"attacks_to_run": attacks_to_run}, n_classes)
    if set(skipped) == set(attacks_to_run):
        raise NotApplicableError(
            f"attack option attacks_to_run: {', '.join(skipped)} needs "
            f"{MIN_CLASSES[skipped[0]]} classes, but the network has {n_classes}"
        )
    has_apgd = not {"apgd-ce", "apgd-t"}.isdisjoint(attacks_to_run)
    if has_apgd and norm == "l1" and steps < MIN_L1_STEPS:
        raise IrpipeError(
            f"attack option steps: APGD in l1 needs at least {MIN_L1_STEPS}; found {steps}"
        )


def n_passes(options: dict[str, Any], n_eps: int, n_classes: int) -> int:
    """How often the network is called for an image, at most; with a gradient counts thrice."""
    steps = options["steps"]
    n_starts, n_stages = (L1_STARTS, 3) if options["norm"] == "l1" else (1, 1)
    n_targets = n_apgd_targets(n_classes, options["norm"])
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


def _attack_rows(search: Search, member: Member, positions: Tensor) -> tuple[Tensor, Tensor]:
    """What a member makes of the images at these positions, and whether it is misclassified."""
    rows = search.rows(positions)
    clean = search.batch.images[rows.image]
    attacked = member(search, rows).to(clean.dtype)
    bounds = clean.new_tensor(search.eps)[rows.eps_number].view(-1, 1, 1, 1)
    attacked = _into_ball(attacked, clean, bounds, search.norm)
    is_wrong = image_margin_loss(search.batch.folded, attacked, rows.labels) > 0
    is_wrong &= attacked.isfinite().flatten(1).all(dim=1)  # A member may return NaN.
    return attacked, is_wrong


def _into_ball(attacked: Tensor, clean: Tensor, eps: Tensor, norm: EpsNorm) -> Tensor:
    """Undo what rounding added to the distance of a member's images."""
    if norm == "linf":
        return attacked.clamp((clean - eps).clamp(min=0), (clean + eps).clamp(max=1))
    return (clean + project(attacked - clean, eps, norm)).clamp(0, 1)
