"""The numbers that the paper prints, and its names and their order.

`published.csv` has Tables 2 to 5 and A1 to A5, `published_table1.csv` has Table 1.
The rows of Tables A1 and A2 for CIFAR-10 Small have exchanged labels (C.6-1). `relabelled.csv` says
which method each of these rows belongs to; nothing else does.
"""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from irpipe.errors import IrpipeError

PGD_TABLES = ("3", "4", "A1", "A2", "A3")  # their numbers are accuracies under PGD

METHODS = {
    "normal": "Normal",
    "adv": "Adv",
    "trades": "TRADES",
    "ig_norm": "IG-Norm",
    "ig_sum_norm": "IG-Norm-Sum",
    "int_one_class": "Int-1-class",
    "int": "Int",
    "int_adv": "Int-Adv",
}
DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "restricted_imagenet": "R-ImageNet",
    "digits": "Digits",
    "quick_digits": "Digits",
}
MODELS = {"small": "Small", "pool": "Pool", "wresnet": "WResnet"}
INTERPRETERS = {
    "cam": "CAM",
    "gradcam": "GradCAM",
    "gradcampp": "GradCAM++",
    "ig": "IG",
    "repr": "Repr",
}
NORMS = {"l1": "\N{SCRIPT SMALL L}1", "l2": "\N{SCRIPT SMALL L}2"}
CLASS_SETS = {"one": "1-class", "two": "2-class", "all": "all-class"}


def order_of(names: dict[str, str], name: str) -> tuple[int, str]:
    """Sort key of `name`: its position in `names`; unknown names come last, by alphabet.

    `names` is METHODS, DATASETS or MODELS.
    """
    known = list(names)
    return (known.index(name) if name in names else len(known), name)


class PublishedKey(NamedTuple):
    """Names one published number.

    `eps` is an l-inf bound in [0, 1]. `steps` and `eps` are None where the table has none.
    """

    dataset: str
    model: str
    method: str
    attack: str
    steps: int | None
    eps: float | None


class PublishedValue(NamedTuple):
    """A published number and the method under whose label the paper prints it."""

    value: float
    published_as: str


class Table1Key(NamedTuple):
    """Names one cell of Table 1; `norm` is a key of NORMS, `class_set` one of CLASS_SETS."""

    dataset: str
    model: str
    method: str
    interpreter: str
    norm: str
    class_set: str


class Table1Value(NamedTuple):
    """A cell of Table 1: normalised discrepancy score (NDS) and normalised slope (NSL), C.5-7."""

    nds: float
    nsl: float


def _read_rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _parse_fraction(text: str) -> float | None:
    """Read `0.1` or `8/255`; an empty text is None."""
    if not text:
        return None
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


@functools.cache
def published_table(table: str) -> dict[PublishedKey, PublishedValue]:
    """All numbers of a published table ("2" to "5", "A1" to "A5"), under corrected labels (C.6-1).

    Raises IrpipeError for any other table.
    """
    corrected_methods = {
        (row["dataset"], row["model"], row["published_as"]): row["method"]
        for row in _read_rows("relabelled.csv")
        if row["table"] == table
    }
    all_rows = _read_rows("published.csv")
    values = {}
    for row in all_rows:
        if row["table"] != table:
            continue
        dataset, model, published_as = row["dataset"], row["model"], row["method"]
        key = PublishedKey(
            dataset=dataset,
            model=model,
            method=corrected_methods.get((dataset, model, published_as), published_as),
            attack=row["attack"],
            steps=int(row["steps"]) if row["steps"] else None,
            eps=_parse_fraction(row["epsilon"]),
        )
        values[key] = PublishedValue(float(row["value"]), published_as)
    if not values:
        known = ", ".join(sorted({row["table"] for row in all_rows}))
        raise IrpipeError(f"published.csv: no table {table!r}; have: {known}")
    return values


@functools.cache
def published_table1() -> dict[Table1Key, Table1Value]:
    """All numbers of Table 1.

    The paper does not name the networks of Table 1. The keys name those that its numbers seem to
    come from (C.5 I9).
    """
    models = {"mnist": "small", "cifar10": "small", "restricted_imagenet": "wresnet"}
    class_sets = {"1": "one", "2": "two", "all": "all"}
    values = {}
    for row in _read_rows("published_table1.csv"):
        key = Table1Key(
            dataset=row["dataset"],
            model=models[row["dataset"]],
            method="normal",
            interpreter=row["interpreter"],
            norm=row["norm"],
            class_set=class_sets[row["classes"]],
        )
        values[key] = Table1Value(float(row["nds"]), float(row["nsl"]))
    return values
