"""What the paper printed (`published.csv`, `published_table1.csv`), and how it names and orders things.

The rows of Tables A1 and A2 for CIFAR-10 Small carry each other's labels (protocol C.6-1). `relabelled.csv`
says which row belongs to which method; it is the only place that does.
"""

import csv
import functools
from pathlib import Path
from typing import NamedTuple

from irpipe.errors import IrpipeError

PGD_TABLES = ("3", "4", "A1", "A2", "A3")  # accuracy under PGD

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
}
MODELS = {"small": "Small", "pool": "Pool", "wresnet": "WResnet"}
INTERPRETERS = {"cam": "CAM", "gradcam": "GradCAM", "gradcampp": "GradCAM++", "ig": "IG", "repr": "Repr"}
NORMS = {"l1": "\N{SCRIPT SMALL L}1", "l2": "\N{SCRIPT SMALL L}2"}
CLASS_SETS = {"one": "1-class", "two": "2-class", "all": "all-class"}


def place(names: dict[str, str], name: str) -> tuple[int, str]:
    """Sort key: the order of `names` (METHODS, DATASETS or MODELS), unknown names behind them by alphabet."""
    known = list(names)
    return (known.index(name) if name in names else len(known), name)


class Cell(NamedTuple):
    """What a published number is of; `eps` is an l-infinity radius in [0, 1]."""

    dataset: str
    model: str
    method: str
    attack: str
    steps: int | None
    eps: float | None


class Printed(NamedTuple):
    """A published number, and the method that the paper prints it under."""

    value: float
    label: str


class Measure(NamedTuple):
    """What a cell of Table 1 is of; norm and classes are keys of NORMS and CLASS_SETS."""

    dataset: str
    model: str
    method: str
    interpreter: str
    norm: str
    classes: str


class Resistance(NamedTuple):
    """A cell of Table 1: how hard a discrepancy is to sneak past."""

    nds: float
    nsl: float


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _fraction(text: str) -> float | None:
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1) if text else None


@functools.cache
def values(table: str) -> dict[Cell, Printed]:
    """All numbers of a published table ("2" to "5", "A1" to "A5"), under corrected labels (protocol C.6-1).

    Raises IrpipeError for any other table.
    """
    moved = {
        (row["dataset"], row["model"], row["printed"]): row["correct"]
        for row in _rows("relabelled.csv")
        if row["table"] == table
    }
    found = {}
    everything = _rows("published.csv")
    for row in everything:
        if row["table"] == table:
            dataset, model, label = row["dataset"], row["model"], row["method"]
            method = moved.get((dataset, model, label), label)
            steps = int(row["steps"]) if row["steps"] else None
            cell = Cell(dataset, model, method, row["attack"], steps, _fraction(row["epsilon"]))
            found[cell] = Printed(float(row["value"]), label)
    if not found:
        known = ", ".join(sorted({row["table"] for row in everything}))
        raise IrpipeError(f"published.csv: no table {table!r}; have: {known}")
    return found


@functools.cache
def resistances() -> dict[Measure, Resistance]:
    """Table 1. The paper does not name its networks; these are what its numbers come from (protocol C.5 I9)."""
    models = {"mnist": "small", "cifar10": "small", "restricted_imagenet": "wresnet"}
    classes = {"1": "one", "2": "two", "all": "all"}
    found = {}
    for row in _rows("published_table1.csv"):
        network = (row["dataset"], models[row["dataset"]], "normal")
        measure = Measure(*network, row["interpreter"], row["norm"], classes[row["classes"]])
        found[measure] = Resistance(float(row["nds"]), float(row["nsl"]))
    return found
