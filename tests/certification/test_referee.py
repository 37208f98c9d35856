"""The exact minimum by HiGHS lies above every bound, and tells bounds that are wrong."""

from collections.abc import Callable

import pytest
import torch
from small_referee import TinyProblem, exact_minimum

from irpipe.certification import leaves, relaxation
from irpipe.certification.decomposition import Decomposition
from irpipe.certification.leaves import NO_LIMIT, LeafBounds
from irpipe.certification.relaxation import Ball
from irpipe.certification.splitting import split_leaves

EPS = 0.08
ROUNDING = 1e-4


def search(decomposition: Decomposition, n_rounds: int) -> float:
    for _ in range(n_rounds):
        split_leaves(decomposition, decomposition.ascend(), 200)
    return decomposition.bound()


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_bounds_rise_up_to_the_exact_minimum(seed: int) -> None:
    problem = TinyProblem(seed, EPS)
    crown = TinyProblem(seed, EPS, optimise_layer2=False).alpha_crown(0)
    alpha_crown = problem.alpha_crown(40)
    decomposition = problem.decomposition()
    assert decomposition.bound() == pytest.approx(alpha_crown, abs=1e-4)
    bound = search(decomposition, 8)
    exact = exact_minimum(problem)
    assert crown - ROUNDING <= alpha_crown <= bound <= exact.value + ROUNDING
    # The trees close most of the gap that alpha-CROWN leaves.
    assert exact.value - bound < 0.5 * (exact.value - alpha_crown)
    # The network has this margin at the program's image.
    assert float(problem.margin(exact.image)) == pytest.approx(exact.value, abs=1e-3)


def negate_betas(self: LeafBounds) -> None:
    self.beta_unit1 = -self.beta_unit1
    is_split = self.leaves.sign[:, self.terms.n_entries :] != 0
    self.movable2 = torch.where(is_split, -self.movable2, self.movable2)


def unlimit_alphas(self: LeafBounds) -> None:
    self.limit = torch.full_like(self.limit, NO_LIMIT)


@pytest.mark.parametrize("mutate", [negate_betas, unlimit_alphas])
def test_the_referee_tells_wrong_leaf_bounds(
    mutate: Callable[[LeafBounds], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = TinyProblem(2, EPS)
    exact = exact_minimum(problem).value
    correct = LeafBounds.__init__

    def mutant(self: LeafBounds, *arguments: object) -> None:
        correct(self, *arguments)  # type: ignore[arg-type]
        mutate(self)

    monkeypatch.setattr(leaves.LeafBounds, "__init__", mutant)
    assert search(problem.decomposition(), 6) > exact + 10 * ROUNDING


def test_the_referee_tells_a_dropped_leaf() -> None:
    problem = TinyProblem(2, EPS)
    decomposition = problem.decomposition()
    for _ in range(6):
        split_leaves(decomposition, decomposition.ascend(), 200)
        place = decomposition.leaves.place
        # Of places with several leaves, the last one is dropped.
        later = place[:, None] == place
        is_last = ~later.triu(1).any(dim=1)
        is_dropped = is_last & (torch.bincount(place)[place] > 1)
        decomposition.leaves = decomposition.leaves.rows(~is_dropped).in_chunks()
    assert decomposition.bound() > exact_minimum(problem).value + 10 * ROUNDING


def test_the_referee_tells_half_a_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = exact_minimum(TinyProblem(2, EPS)).value
    full = relaxation.clipped_ball

    def half(images: torch.Tensor, eps: float) -> Ball:
        return full(images, eps / 2)

    monkeypatch.setattr("small_referee.clipped_ball", half)
    assert search(TinyProblem(2, EPS).decomposition(), 6) > exact + 10 * ROUNDING
