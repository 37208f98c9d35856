"""Attacks, one file a kind: `attack(case, *, eps, options)` yields an `Outcome` for each step count.

What comes out is not trusted: `evaluate` checks range and radius and recomputes every prediction. A kind without an
`eps` among its options chooses its own radii and bounds each image itself. A kind may also have
`measure(case, images, *, options)`, which gives further arrays `[E, N, ...]` of images that passed the check (or of the
first of them, for figures); `AXIS`, what its outcomes differ in if not in their steps; `radii(spec)`, those of an entry
that names none; and `record(spec)`, attributes of its results, such as the hashes of files that it reads.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # reports read what lies in `parts` and need no torch
    from torch import Tensor


class Outcome(NamedTuple):
    """Images of an attack, `[E, N, C, H, W]`: one set a radius in `eps`, or a set for each of the attack's own points.

    `at` is the step count, or the number of what else the outcomes differ in. `bound` `[E, N]` is how far (l-inf) each
    image may lie from its own; none: the radius in `eps`; infinity: the attack's set is no l-inf ball. `extra` arrays
    `[E, N]` are the attack's own record: targets, weights found, flags.
    """

    at: int
    images: "Tensor"
    bound: "Tensor | None" = None
    extra: "Mapping[str, Tensor]" = {}
