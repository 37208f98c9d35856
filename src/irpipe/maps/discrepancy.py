"""How far two sets of interpretability maps lie apart (paper eq (3) and (4), Sec. 5; protocol C.5).

Maps are `[N, K, ...]`: K maps an image, one for each class that counts. Imports no torch, for reports.
"""

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Specification(NamedTuple):
    """Which discrepancy an attack keeps small: its norm ("l1", "l2") and whose maps count ("one", "two", "all")."""

    norm: str
    classes: str


def specifications(interpreter: str, norms: Iterable[str], classes: Iterable[str]) -> list[Specification]:
    """All norms with all sets of classes, the latter fastest.

    The internal representation has no classes: it stands among the 2-class measures alone, as in Table 1.
    """
    return [Specification(*pair) for pair in product(norms, ["two"] if interpreter == "repr" else classes)]


def distance(maps: "Tensor", clean: "Tensor", norm: str, root: bool = True) -> "Tensor":
    """Norm of the change of each map, `[N, K]`: sum |d| (l1), the root of sum d^2 (l2), or, without root, that sum.

    The gradient is 0 where nothing changed.
    """
    change = (maps - clean).flatten(2)
    if norm == "l1":
        return change.abs().sum(dim=2)
    return change.norm(dim=2) if root else change.square().sum(dim=2)


def normalised(maps: "Tensor", clean: "Tensor", norm: str) -> tuple["Tensor", "Tensor"]:
    """Mean over an image's maps of their distance over the clean map's max - min, `[N]` (Sec. 5, C.5-6).

    Maps that are constant have no such quotient (C.5 I15): they are left out of the mean, and counted in the second
    value, `[N]`. NaN for an image with no other map.
    """
    flat = clean.flatten(2)
    span = flat.amax(dim=2) - flat.amin(dim=2)
    constant = span == 0
    quotient = (distance(maps, clean, norm) / span.masked_fill(constant, 1)).masked_fill(constant, 0)
    count = constant.sum(dim=1)
    return quotient.sum(dim=1) / (span.shape[1] - count), count
