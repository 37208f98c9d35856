"""Bound one margin by the decomposition; split leaves until it is proven or a limit ends it."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from irpipe.certification.certificate import MIN_MARGIN
from irpipe.certification.counterexample import descend
from irpipe.certification.decomposition import Decomposition, RoundPoint
from irpipe.certification.splitting import split_leaves

# The search stops above this. Rounding the duals for the certificate costs some of it.
STOP_MARGIN = 2 * MIN_MARGIN
MAX_ROUNDS = 200
# Rounds in which no leaf is split, because there are as many as may be or none is worth it.
ROUNDS_WITHOUT_SPLIT = 10
# Every so many rounds the point where the bound is smallest starts an attack.
ROUNDS_PER_ATTACK = 6
ATTACK_STEPS = 40


@dataclass(frozen=True)
class Limits:
    """When the search for a proof of one image ends without one.

    `leaves` is the largest number of leaves of one target's trees; for this limit alone the
    outcome is deterministic. At `deadline` (of `time.thread_time`) the search ends, too.
    """

    leaves: int
    deadline: float = float("inf")


@dataclass(frozen=True)
class TreeSearch:
    """The outcome: the bound, the leaves, and an image `[C, H, W]` if one has margin < 0."""

    bound: float
    decomposition: Decomposition
    adversarial: Tensor | None = None


def search_trees(
    decomposition: Decomposition, clean: Tensor, eps: float, limits: Limits
) -> TreeSearch:
    """Raise the bound of one margin by rounds of ascent and splits, within `limits`.

    The search ends when the bound is above STOP_MARGIN, when the attack from the bound's minimum
    finds an image within `eps` of `clean` whose margin is negative, or at a limit.
    """
    n_rounds_left = ROUNDS_WITHOUT_SPLIT
    while True:
        bound = decomposition.bound()
        is_spent = not n_rounds_left or decomposition.n_rounds >= MAX_ROUNDS
        if bound > STOP_MARGIN or is_spent or time.thread_time() > limits.deadline:
            return TreeSearch(bound, decomposition)
        state = decomposition.ascend()
        if decomposition.n_rounds % ROUNDS_PER_ATTACK == 1:
            adversarial = _attack(decomposition, state, clean, eps)
            if adversarial is not None:
                return TreeSearch(bound, decomposition, adversarial)
        if not split_leaves(decomposition, state, limits.leaves):
            n_rounds_left -= 1


def _attack(
    decomposition: Decomposition, state: RoundPoint, clean: Tensor, eps: float
) -> Tensor | None:
    """Return an image of negative margin near the bound's minimum, `[C, H, W]`, or None.

    PGD starts at x* of the rest and at the mean of the leaves' x*, by their weights.
    """
    network = decomposition.network
    chunks = state.bounds.chunks
    patches = chunks.sums(state.weights, state.point.pixels, network.n_places)[:, :-1]
    n_patches = network.add_pixels(torch.ones_like(patches)[None])
    mean = network.add_pixels(patches[None]) / n_patches.clamp(min=1)
    starts = torch.cat([state.rest_pixels, mean])
    coefficients = decomposition.coefficients.expand(2, -1, -1)
    constant = decomposition.constant.expand(2)
    descent = descend(network, clean, eps, starts, coefficients, constant, ATTACK_STEPS)
    return descent.misclassified()
