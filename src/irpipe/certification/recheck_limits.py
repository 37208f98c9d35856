"""Refuse certificates of Small whose arrays are not those of a proof."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from irpipe.certification.certificate import TargetProof
from irpipe.certification.cover import covers
from irpipe.errors import IrpipeError


def check_levels(name: str, levels: np.ndarray) -> None:
    """Raise IrpipeError unless stored levels are uint8, whose values are all within limits."""
    if levels.dtype != np.uint8:
        raise IrpipeError(f"certificate: {name} is {levels.dtype}; expected uint8")


def check_duals(
    targets: Sequence[int], name: str, duals: Tensor, sign: Tensor | None = None
) -> None:
    """Raise IrpipeError unless the duals of each target, `[T, ...]`, are within their limits.

    A dual is a beta where there is a `sign`, else an alpha.
    """
    is_valid = (duals >= 0) & (duals <= 1)
    if sign is not None:
        is_valid |= (sign != 0) & (duals >= 0) & duals.isfinite()
    for target, is_target_valid in zip(targets, is_valid.flatten(1).all(dim=1), strict=True):
        if not is_target_valid:
            raise IrpipeError(
                f"certificate: target {target}: {name} has a value outside its limits, "
                "[0, 1] for an alpha and [0, infinity) for a beta"
            )


def check_root(proof: TargetProof, n_places: int, n_entries: int, n_channels: int) -> None:
    """Raise IrpipeError unless a proof without E has one leaf without signs for each place."""
    _check_shapes(proof, n_entries, n_channels)
    is_split = proof.sign1.any() or proof.sign2.any()
    if is_split or not np.array_equal(proof.place, np.arange(n_places)):
        location = f"certificate: target {int(proof.target)}"
        raise IrpipeError(f"{location}: has no E, so there must be one leaf for each place")


def check_tree(proof: TargetProof, n_places: int, n_entries: int, n_channels: int) -> None:
    """Raise IrpipeError unless the leaves of each place cover it."""
    _check_shapes(proof, n_entries, n_channels)
    signs = np.concatenate([proof.sign1, proof.sign2], axis=1)
    for place in range(n_places):
        if not covers(signs[proof.place == place]):
            location = f"certificate: target {int(proof.target)}"
            raise IrpipeError(f"{location}: the leaves of place {place} do not cover it")


def _check_shapes(proof: TargetProof, n_entries: int, n_channels: int) -> None:
    """Raise IrpipeError unless arrays of leaves have a row for each leaf.

    Otherwise torch might repeat a row or a column, and a sign would stand for several neurons.
    """
    n_leaves = len(proof.place)
    layer1, layer2 = (n_leaves, n_entries), (n_leaves, n_channels)
    shapes = {"sign1": layer1, "dual1": layer1, "sign2": layer2, "dual2": layer2}
    for name, shape in shapes.items():
        found = getattr(proof, name).shape
        if found != shape:
            location = f"certificate: target {int(proof.target)}"
            raise IrpipeError(f"{location}: {name} has shape {found}; expected {shape}")
