"""Split the leaves that hold a bound down most."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.decomposition import Decomposition, RoundPoint
from irpipe.certification.leaves import Leaves

MIN_SPLITS = 16
# At most one leaf of so many is split after a round, but MIN_SPLITS may be.
LEAVES_PER_SPLIT = 6
# Leaves with a smaller weight times gap are not worth a split.
MIN_SCORE = 1e-5


class _Splits(NamedTuple):
    """Leaves and the neurons at which to split them, one row per split.

    `leaf` is an index into all leaves. `neuron` counts the open entries of layer 1, then the open
    channels of layer 2. `beta_positive` and `beta_negative` are the duals with which the children
    begin.
    """

    leaf: Tensor
    neuron: Tensor
    beta_positive: Tensor
    beta_negative: Tensor


def split_leaves(decomposition: Decomposition, state: RoundPoint, max_leaves: int) -> int:
    """Split the leaves of largest softmin weight times gap; return how many were split.

    A leaf is split at the neuron of largest gap, in layer 1 or 2. There will be at most
    `max_leaves` leaves.
    """
    splits = _choose_splits(decomposition, state, max_leaves - decomposition.n_leaves)
    leaves = decomposition.leaves
    parents = leaves.rows(splits.leaf)
    leaves.store(splits.leaf, _children(parents, splits.neuron, splits.beta_positive, 1))
    leaves.append(_children(parents, splits.neuron, splits.beta_negative, -1))
    decomposition.leaves = leaves.in_chunks()
    return len(splits.leaf)


def _choose_splits(decomposition: Decomposition, state: RoundPoint, n_left: int) -> _Splits:
    """Choose the splits, with children's duals that reproduce the parent's bound.

    Where the parent's relaxation has A+ alpha z, the child on z >= 0 has A+ z - beta z and the
    child on z <= 0 has beta z. So beta = A+ (1 - alpha) and beta = A+ alpha give the same.
    """
    bounds, leaves = state.bounds, state.bounds.leaves
    place = leaves.place
    interval = decomposition.terms.interval
    z = state.z.clamp(interval.lower[place], interval.upper[place])
    gap, neuron = bounds.gaps(state.point, z).max(dim=1)
    score = state.weights * gap
    n_splits = max(MIN_SPLITS, len(place) // LEAVES_PER_SPLIT)
    n_splits = min(n_splits, max(n_left, 0), int((score > MIN_SCORE).sum()))
    chosen = score.topk(n_splits).indices
    neuron = neuron[chosen]
    positive = torch.cat([state.point.positive1[chosen], bounds.positive2[chosen]], dim=1)
    row = torch.arange(n_splits, device=chosen.device)
    alpha = leaves.dual.value[chosen, neuron]
    unit = decomposition.margin.scale[place[chosen], neuron]
    coefficient = positive[row, neuron] / unit
    return _Splits(chosen, neuron, coefficient * (1 - alpha), coefficient * alpha)


def _children(parents: Leaves, neuron: Tensor, beta: Tensor, sign: int) -> Leaves:
    """Return the children of `parents` on one side of the `neuron` of each."""
    row = torch.arange(len(neuron), device=neuron.device)
    children = parents.rows(row)
    children.sign[row, neuron] = sign
    children.dual.value[row, neuron] = beta
    children.dual.gradient[row, neuron] = 0
    return children
