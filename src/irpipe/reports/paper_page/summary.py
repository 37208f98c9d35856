"""What the results say, in words that are made from the numbers."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from irpipe.errors import IrpipeError
from irpipe.published import DATASETS, METHODS, MODELS, order_of
from irpipe.results.labels import EPS_TOLERANCE, eps_label

if TYPE_CHECKING:
    import pandas as pd

# The methods that the sentences compare: trained on explanations alone, on adversarial images,
# on clean images.
COMPARED = ("int", "adv", "normal")
# A difference of accuracies below this is within the rounding of what is printed.
SAME = 0.005


def sentences(frame: "pd.DataFrame") -> list[str]:
    """One sentence or two for each data set and model, about Int, Adv and Normal.

    `frame` is that of `to_frame`. The sentences are about the eps of training and the largest
    step count, and give means over seeds. Data sets and models without Int have none.
    """
    at_train_eps = frame[(frame["eps"] - frame["train_eps"]).abs() < EPS_TOLERANCE]
    texts = []
    pairs = at_train_eps[["dataset", "model"]].drop_duplicates().itertuples(index=False)
    for dataset, model in sorted(
        pairs, key=lambda pair: (order_of(DATASETS, pair[0]), order_of(MODELS, pair[1]))
    ):
        rows = at_train_eps[(at_train_eps["dataset"] == dataset) & (at_train_eps["model"] == model)]
        label = f"{DATASETS.get(dataset, dataset)} {MODELS.get(model, model)}"
        texts += list(_robustness(rows, label)) + list(_explanations(rows, label))
    return texts


def _robustness(rows: "pd.DataFrame", label: str) -> Iterator[str]:
    rows = rows[rows["kind"] == "pgd"]
    means = _means(rows, "accuracy")
    if "int" not in means:
        return
    eps = eps_label(float(rows["train_eps"].iloc[0]))
    steps = int(rows["steps"].max())
    text = f"{label}: after {steps} steps of PGD at ε = {eps}, {_list(means)} stay correct."
    if "adv" in means:
        difference = means["int"] - means["adv"]
        if abs(difference) < SAME:
            text += " Int, trained on explanations alone, is as accurate as Adv."
        else:
            comparison = "more" if difference > 0 else "less"
            text += f" Int, trained on explanations alone, is {abs(difference):.2f} {comparison}"
            text += " accurate than Adv."
    yield text


def _explanations(rows: "pd.DataFrame", label: str) -> Iterator[str]:
    rows = rows[(rows["kind"] == "aai") & rows["tau"].notna()]
    if rows.empty:
        return
    rows = rows[rows["attack"] == rows["attack"].iloc[0]]
    means = _means(rows, "tau")
    if "int" not in means:
        return
    numbers = ", ".join(
        f"{value:.2f} to {METHODS[method]} (n = {_n_images(rows, method)})"
        for method, value in means.items()
    )
    yield (
        f"{label}: an attack on the explanation leaves a rank correlation (Kendall's tau, with the "
        f"prediction kept) of {numbers}."
    )


def _means(rows: "pd.DataFrame", column: str) -> dict[str, float]:
    """Mean over runs of a number at the largest step count, by method, in the order of COMPARED."""
    last = rows[rows["steps"] == rows["steps"].max()]
    means = last.groupby("method")[column].mean()
    return {method: float(means[method]) for method in COMPARED if method in means}


def _n_images(rows: "pd.DataFrame", method: str) -> int:
    return int(rows[rows["method"] == method]["tau_n"].min())


def _list(means: dict[str, float]) -> str:
    """Such as "0.79 of Int's predictions, 0.91 of Adv's and 0.00 of Normal's"."""
    (first, value), *others = means.items()
    parts = [f"{value:.2f} of {METHODS[first]}'s predictions"]
    parts += [f"{value:.2f} of {METHODS[method]}'s" for method, value in others]
    *before, last = parts
    return f"{', '.join(before)} and {last}" if before else last


def claim_lines(path: Path) -> list[str]:
    """The claims of a claims table, each with its data set, model and verdict."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            f"{DATASETS.get(row['dataset'], row['dataset'])} "
            f"{MODELS.get(row['model'], row['model'])}: {row['claim']}: {row['verdict']}"
            for row in rows
        ]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise IrpipeError(f"{path}: not a claims table of this version; make it again") from error
