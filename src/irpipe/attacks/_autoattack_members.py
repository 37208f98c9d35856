"""AutoAttack's members. Each searches for all images that are left, at all eps.

Except for Square in l1 and l2, the images of all eps are attacked together, because a call for a
few images takes nearly as long as one for many.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.norms import norms
from irpipe.attacks._autoattack_search import Rows, Search, alone
from irpipe.attacks._pyautoattack import (
    PYAUTOATTACK_NORMS,
    SILENT,
    SearchResults,
    import_pyautoattack,
)
from irpipe.attacks._square import SquareDraws, draw_stacked, seeded, square
from irpipe.networks.folded import FoldedNetwork
from irpipe.option_types import EpsNorm
from irpipe.runtime.memory import map_fitting_rows
from irpipe.runtime.threads import ROWS_PER_CHUNK, map_row_chunks

# Of APGD in l1: starts on the cross-entropy, and classes that the targeted one aims at.
L1_STARTS = 5
L1_TARGETS = 5


# Takes rows and returns their attacked images `[M, C, H, W]`.
Member = Callable[[Search, Rows], Tensor]


def n_apgd_targets(n_classes: int, norm: EpsNorm) -> int:
    """How many classes the targeted APGD aims at."""
    return min(n_classes - 1, L1_TARGETS) if norm == "l1" else n_classes - 1


def apgd_ce(search: Search, rows: Rows) -> Tensor:
    """APGD on the cross-entropy."""
    n_starts = L1_STARTS if search.norm == "l1" else 1
    return _apgd(search, rows, import_pyautoattack().APGD, [1] * n_starts)


def apgd_t(search: Search, rows: Rows) -> Tensor:
    """APGD on the targeted DLR loss."""
    n_targets = n_apgd_targets(search.n_classes, search.norm)
    return _apgd(search, rows, import_pyautoattack().APGDT, list(range(2, n_targets + 2)))


def _apgd(search: Search, rows: Rows, member_class: Any, ranks: Sequence[int]) -> Tensor:
    """The misclassified images that APGD found, else the clean ones.

    For each of `ranks` there is a run, on what the runs before left. The targeted one aims at the
    class with the logit of this rank; rank 2 is the second largest one. Of few images, as many runs
    as fill a chunk are made together, and the first one that succeeds counts. The starts are drawn
    for all images of the batch, so that they do not depend on which images are left.
    """
    images = search.batch.images
    attacked = rows.images.clone()
    generators = seeded(search.seeds)
    left = torch.arange(len(attacked), device=attacked.device)
    run = partial(_run_apgd_in_l1 if search.norm == "l1" else _run_apgd, search, member_class)
    while len(ranks) and len(left):
        n_runs = max(1, ROWS_PER_CHUNK // len(left))
        now, ranks = ranks[:n_runs], ranks[n_runs:]
        cells = rows.eps_number[left].cpu(), rows.image[left].cpu()
        drawn = [
            draw_stacked(generators, *images.shape, gaussian=search.norm != "linf")[cells]
            for _ in now
        ]
        again = left.repeat(len(now))
        columns = [tensor[again] for tensor in rows[:3]]
        columns += [torch.cat(drawn).to(images.device)]
        columns += [left.new_tensor(now).repeat_interleave(len(left))]
        with alone(search):
            is_correct, found = map_row_chunks(run, *columns, row_bytes=search.row_bytes)
        is_correct = is_correct.view(len(now), -1)
        first_success = is_correct.int().argmin(dim=0)  # 0 if there is none
        is_left = is_correct.all(dim=0)
        broken = torch.nonzero(~is_left)[:, 0]
        attacked[left[broken]] = found[first_success[broken] * len(left) + broken]
        left = left[is_left]
    return attacked


def _apgd_towards(
    search: Search, member_class: Any, clean: Tensor, eps: Tensor | float, rank: Tensor
) -> Any:
    """pyautoattack's APGD; the targeted one aims at the class of each row's rank."""
    norm = PYAUTOATTACK_NORMS[search.norm]
    member = member_class(search.module, norm=norm, eps=eps, n_iter=search.steps, logger=SILENT)
    member.init_hyperparam(clean)
    if member_class is import_pyautoattack().APGDT:
        by_logit = search.module(clean).argsort(dim=1)
        member.y_target = by_logit.gather(1, search.n_classes - rank[:, None])[:, 0]
    return member


@torch.no_grad()
def _run_apgd(
    search: Search,
    member_class: Any,
    clean: Tensor,
    labels: Tensor,
    eps: Tensor,
    noise: Tensor,
    rank: Tensor,
) -> list[Tensor]:
    """Whether rows stay correct, and for the others a misclassified image."""
    member = _apgd_towards(search, member_class, clean, eps, rank)
    noise = 2 * noise - 1 if search.norm == "linf" else noise
    starts = clean + eps * member.normalize(noise)
    _, is_correct, _, misclassified = member.attack_single_run(clean, labels, starts)
    return [is_correct, misclassified]


@torch.no_grad()
def _run_apgd_in_l1(search: Search, member_class: Any, *columns: Tensor) -> list[Tensor]:
    """As `_run_apgd`, but 30% of the steps are at 3 eps and 30% at 2 eps.

    In l1 pyautoattack takes one number as eps, so it gets the rows of each eps for themselves.
    """
    project = import_pyautoattack().L1_projection
    counts = torch.unique_consecutive(columns[2], return_counts=True)[1].tolist()
    n_larger = math.ceil(0.3 * search.steps)
    stages = (3, n_larger), (2, n_larger), (1, search.steps - 2 * n_larger)
    parts = []
    for rows in zip(*(torch.split(column, counts) for column in columns), strict=True):
        clean, labels, eps, noise, rank = rows
        member = _apgd_towards(search, member_class, clean, float(eps[0]), rank)
        attacked = clean + noise
        for factor, member.n_iter in stages:
            member.eps = factor * float(eps[0])
            attacked += project(clean, attacked - clean, member.eps)
            attacked, is_correct, _, misclassified = member.attack_single_run(
                clean, labels, attacked
            )
        parts.append((is_correct, misclassified))
    return [torch.cat(column) for column in zip(*parts, strict=True)]


def fab_t(search: Search, rows: Rows) -> Tensor:
    """FAB towards each other class: the nearest misclassified images within eps, or the clean ones.

    FAB looks for the nearest misclassified image and does not use eps. So one search per image
    serves all eps.
    """
    image, row = torch.unique(rows.image, return_inverse=True)
    images, labels = search.batch.images[image].float(), search.batch.labels[image]

    def row_bytes() -> int:
        return (search.n_classes - 1) * search.row_bytes()

    find = partial(_nearest_misclassified, search)
    nearest = map_row_chunks(find, images, labels, row_bytes=row_bytes)[0][row]
    is_within = norms(nearest - rows.images, search.norm) <= rows.eps.flatten()
    return torch.where(is_within.view(-1, 1, 1, 1), nearest, rows.images)


def _nearest_misclassified(search: Search, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The nearest misclassified image over all target classes, else the clean image."""

    class Fab(import_pyautoattack().FAB):  # type: ignore[misc]
        """FAB towards a class of its own for each row."""

        targets: Tensor

        def _get_predicted_label(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                logits: Tensor = search.module(images)
                return logits.argmax(dim=1)

        def _predict_fn(self, images: Tensor) -> Tensor:
            """Scores by which FAB chooses the target, that with the largest one."""
            return F.one_hot(self.targets, search.n_classes)  # of rank 1

    fab = Fab(search.module, norm=PYAUTOATTACK_NORMS[search.norm], n_iter=search.steps)
    fab.target_class = 1
    nearest = images.clone()
    least_distance = torch.full_like(labels, math.inf, dtype=torch.float32)
    with torch.no_grad():
        others = search.module(images).argsort(dim=1, descending=True)[:, 1:].t()
    for targets in others.split(max(1, ROWS_PER_CHUNK // len(images))):
        shape = (len(targets), *images.shape)
        clean = images.expand(shape).flatten(0, 1)
        fab.targets = targets.flatten()
        attacked = fab.attack_single_run(clean, labels.repeat(len(targets)), is_targeted=True)
        distance = norms(attacked - clean, search.norm).to(least_distance.dtype)
        # FAB returns the clean image if it finds none.
        distance = torch.where(distance > 0, distance, math.inf).view(shape[:2])
        distance, target = distance.min(dim=0)
        is_nearer = distance < least_distance
        found = attacked.view(shape)[target, torch.arange(len(images))]
        nearest[is_nearer] = found[is_nearer]
        least_distance[is_nearer] = distance[is_nearer]
    return [nearest]


# Results of Square for the last network, by all else that decides them: `irpipe stress` runs Square
# within the ensemble and also alone, with the same seeds.
_SQUARE_RESULTS: WeakKeyDictionary[FoldedNetwork, dict[Any, SearchResults]] = WeakKeyDictionary()


def square_once(search: Search, rows: Rows) -> Tensor:
    """Square, on each image only once."""
    batch = search.batch
    key = (search.norm, *search.eps, search.n_queries, *search.seeds, batch.indices.tobytes())
    if batch.folded not in _SQUARE_RESULTS:
        _SQUARE_RESULTS.clear()  # The images of another network would only take memory.
    results = _SQUARE_RESULTS.setdefault(batch.folded, {})
    if key not in results:
        n_rows = len(search.eps) * len(batch.images)
        results[key] = SearchResults(rows.images.new_empty(n_rows, *batch.images.shape[1:]))
    positions = rows.eps_number * len(batch.images) + rows.image
    return results[key](positions, lambda unknown: _square(search, search.rows(unknown)))


def _square(search: Search, rows: Rows) -> Tensor:
    if search.norm != "linf":
        return _authors_square(search, rows)
    draws = SquareDraws.draw(search.seeds, search.batch.images, search.n_queries)
    stripes = draws.stripes[rows.eps_number, rows.image]
    columns = (*rows[:3], rows.eps_number, stripes)

    @torch.no_grad()
    def run(*columns: Tensor) -> list[Tensor]:
        return [square(search.module, *columns, draws=draws)]

    return map_fitting_rows(run, *columns)[0]


def _authors_square(search: Search, rows: Rows) -> Tensor:
    """pyautoattack's Square, one eps after the other."""
    attacked = rows.images.clone()
    square_in = partial(import_pyautoattack().Square, norm=PYAUTOATTACK_NORMS[search.norm])
    square_in = partial(square_in, n_queries=search.n_queries, resc_schedule=False)
    for number in torch.unique(rows.eps_number).tolist():
        is_here = rows.eps_number == number
        with alone(search):
            member = square_in(search.module, eps=search.eps[number], seed=search.seeds[number])
            attacked[is_here] = member.perturb(rows.images[is_here], rows.labels[is_here])
    return attacked


MEMBERS: dict[str, Member] = {
    "apgd-ce": apgd_ce,
    "apgd-t": apgd_t,
    "fab-t": fab_t,
    "square": square_once,
}
