"""Columns of a table over eps, and the published value that belongs into a cell."""

from collections.abc import Mapping
from typing import NamedTuple

from irpipe.published import PublishedKey, PublishedValue
from irpipe.results.labels import EPS_TOLERANCE, DatasetModel, eps_label
from irpipe.results.result import Result


class Column(NamedTuple):
    """A column of a table: its title, and the eps, step count and attack that it shows.

    `attack` is the name in `published.csv`.
    """

    title: str
    eps: float
    steps: int
    attack: str = "pgd"


def columns_by_eps(
    pair: DatasetModel,
    group: list[Result],
    steps: int,
    published: Mapping[PublishedKey, PublishedValue],
    attack: str = "pgd",
) -> list[Column]:
    """Columns of a table with one column per eps, by rising eps; there is at least one.

    They have the published eps of this data set and model, attack and step count. If there are
    none, they have the eps of the results up to the eps of training.
    """
    train_eps = group[0].attrs["train_eps"]
    eps_values = {
        key.eps
        for key in published
        if (key.dataset, key.model) == pair
        and (key.attack, key.steps) == (attack, steps)
        and key.eps is not None
    }
    if not eps_values:
        eps_values = {
            float(eps)
            for result in group
            for eps in result.arrays["eps"]
            if eps < train_eps + EPS_TOLERANCE
        }
    return [
        Column(f"ε = {eps_label(eps)}", eps, steps, attack)
        for eps in sorted(eps_values or {train_eps})
    ]


def published_value(
    published: Mapping[PublishedKey, PublishedValue], result: Result, column: Column
) -> PublishedValue | None:
    """The value that the paper prints for a result's network in a column; None means there is none.

    A value that is printed without an eps belongs to every eps.
    """
    network = tuple(result.attrs[key] for key in ("dataset", "model", "method"))
    for key, value in published.items():
        is_network = (key.dataset, key.model, key.method) == network
        is_attack = (key.attack, key.steps) == (column.attack, column.steps)
        is_eps = key.eps is None or abs(key.eps - column.eps) < EPS_TOLERANCE
        if is_network and is_attack and is_eps:
            return value
    return None
