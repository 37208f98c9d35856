"""Discrepancies between interpretability maps (paper eq (3) and (4), Sec. 5; C.5).

Maps are `[N, K, ...]`: K maps per image, one for each class of a class set. This module imports
no torch, so that reports start without it.
"""

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class DiscrepancyMeasure(NamedTuple):
    """Paper eq (3): a norm ("l1" or "l2") and a class set ("one", "two" or "all")."""

    norm: str
    class_set: str


def all_measures(
    interpreter: str, norms: Iterable[str], class_sets: Iterable[str]
) -> list[DiscrepancyMeasure]:
    """Every norm with every class set; the class set changes fastest.

    The maps of the interpreter `repr` belong to no class. Table 1 lists them as 2-class, so
    they have that class set only.
    """
    if interpreter == "repr":
        class_sets = ["two"]
    return [DiscrepancyMeasure(*pair) for pair in product(norms, class_sets)]


def distance(maps: "Tensor", clean_maps: "Tensor", norm: str, squared_l2: bool = False) -> "Tensor":
    """Norm of the change d of each map, `[N, K]`.

    It is sum |d| for "l1" and sqrt(sum d^2) for "l2", or sum d^2 with `squared_l2`. The gradient
    is 0 where a map did not change.
    """
    change = (maps - clean_maps).flatten(2)
    if norm == "l1":
        return change.abs().sum(dim=2)
    return change.square().sum(dim=2) if squared_l2 else change.norm(dim=2)


def normalised_discrepancy(
    maps: "Tensor", clean_maps: "Tensor", norm: str
) -> tuple["Tensor", "Tensor"]:
    """Normalised discrepancy of each image, `[N]` (paper Sec. 5, C.5-6).

        mean over c of ||L(x', c) - L(x, c)|| / (max L(x, c) - min L(x, c))

    C.5 I15: constant clean maps have no such quotient and are left out of the mean. The second
    value counts them, `[N]`. An image without other maps has the discrepancy NaN.
    """
    entries = clean_maps.flatten(2)
    value_range = entries.amax(dim=2) - entries.amin(dim=2)
    is_constant = value_range == 0
    quotients = distance(maps, clean_maps, norm) / value_range.masked_fill(is_constant, 1)
    n_constant = is_constant.sum(dim=1)
    n_counted = value_range.shape[1] - n_constant
    return quotients.masked_fill(is_constant, 0).sum(dim=1) / n_counted, n_constant
