"""What the results say, in words that are made from the numbers."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from irpipe.errors import IrpipeError
from irpipe.published import DATASETS, METHODS, MODELS, order_of
from irpipe.results.labels import EPS_TOLERANCE, counted, eps_label

if TYPE_CHECKING:
    import pandas as pd

# The methods that the sentences compare: trained on explanations alone, on adversarial images,
# on clean images.
COMPARED = ("int", "adv", "normal")
# Attacks of other kinds than those of any training (protocol C.6-3).
UNFORESEEN = ("gabor", "snow", "jpeg", "fog")


def sentences(frame: "pd.DataFrame") -> dict[str, list[str]]:
    """By data set and model, such as "MNIST Small", what Int keeps next to Adv and Normal.

    `frame` is that of `to_frame`. The sentences are about the largest step count and, but for
    certificates, the eps of training. Released networks have sentences of their own; those on
    trained ones give means over seeds. Data sets and models without Int have none.
    """
    texts = {}
    is_released = frame["run"] == "released"
    groups = frame[["dataset", "model"]].assign(is_trained=~is_released).drop_duplicates()
    for dataset, model, is_trained in sorted(
        groups.itertuples(index=False, name=None),
        key=lambda group: (order_of(DATASETS, group[0]), order_of(MODELS, group[1]), group[2]),
    ):
        is_pair = (frame["dataset"] == dataset) & (frame["model"] == model)
        rows = frame[is_pair & (is_released != is_trained)]
        at_train_eps = rows[(rows["eps"] - rows["train_eps"]).abs() < EPS_TOLERANCE]
        parts = [
            *_robustness(at_train_eps),
            *_explanations(at_train_eps),
            *_unforeseen(rows),
            *_certified(rows),
        ]
        if parts:
            has_both = is_released[is_pair].nunique() > 1
            suffix = ", from scratch" if has_both and is_trained else ""
            texts[_pair_label(dataset, model) + suffix] = parts
    return texts


def _pair_label(dataset: str, model: str) -> str:
    return f"{DATASETS.get(dataset, dataset)} {MODELS.get(model, model)}"


def _robustness(rows: "pd.DataFrame") -> Iterator[str]:
    """What PGD leaves correct, and whether Int or Adv is more accurate then."""
    is_linf = rows["eps_norm"].fillna("linf") == "linf"
    rows = rows[(rows["kind"] == "pgd") & is_linf]
    rows = _last_steps(rows[rows["attack"] == rows["attack"].min()])
    means = _means(rows, "accuracy")
    if "int" not in means:
        return
    eps = eps_label(float(rows["train_eps"].iloc[0]))
    steps, n_images = counted(int(rows["steps"].max()), "step"), int(rows["n"].min())
    text = f"After {steps} of PGD at ε = {eps}, {_list(means)} stay correct (n = {n_images})."
    if "adv" in means:
        word = "overlap" if _intervals_overlap(rows) else "do not overlap"
        text += f" Int, trained on explanations alone, is {_compare(means)}; "
        text += f"their 95% intervals {word}."
    yield text


def _explanations(rows: "pd.DataFrame") -> Iterator[str]:
    """How much of the maps an attack on them leaves."""
    rows = rows[(rows["kind"] == "aai") & rows["tau_all"].notna()]
    rows = _last_steps(rows[rows["attack"] == rows["attack"].min()])
    means = _means(rows, "tau_all")
    if "int" not in means:
        return
    eps = eps_label(float(rows["train_eps"].iloc[0]))
    kept = [f"{METHODS[method]} {value:z.2f}" for method, value in means.items()]
    kept[0] = f"Int keeps {means['int']:z.2f} of its explanation"
    yield (
        f"Under an attack on the explanation at ε = {eps}, {_and(kept)} (mean of Kendall's tau "
        "between the maps before and after, with lost images counted as 0; "
        f"n = {int(rows['n'].min())})."
    )


def _unforeseen(rows: "pd.DataFrame") -> Iterator[str]:
    """Where Int is more or less accurate than Adv under attacks that no network was trained for."""
    by_comparison: dict[str, list[str]] = {}
    rows = rows[rows["kind"].isin(UNFORESEEN)]
    n_attacks = rows.groupby("kind")["attack"].nunique()
    for (kind, attack), of_attack in rows.groupby(["kind", "attack"], sort=False):
        group = _last_steps(of_attack[of_attack["eps"] == of_attack["eps"].max()])
        means = _means(group, "accuracy")
        if {"int", "adv"} <= set(means):
            comparison = f"Int is {_comparison(means)} Adv"
            if _intervals_overlap(group):
                comparison = "the 95% intervals of Int and Adv overlap"
            name = kind if n_attacks[kind] == 1 else attack
            numbers = f"{means['int']:.2f} against {means['adv']:.2f}, n = {int(group['n'].min())}"
            by_comparison.setdefault(comparison, []).append(f"{name} ({numbers})")
    for comparison, attacks in by_comparison.items():
        yield f"Under attacks that no network was trained for, {comparison}: {_and(attacks)}."


def _certified(rows: "pd.DataFrame") -> Iterator[str]:
    """The share of images that no attack can break, at the largest eps with a proof for Int."""
    rows = rows[(rows["kind"] == "certify") & (rows["eps"] > 0)]
    is_proven = (rows["method"] == "int") & (rows["certified"] > 0)
    rows = _last_steps(rows[rows["eps"] == rows["eps"][is_proven].max()])
    means = _means(rows, "certified")
    if "int" in means:
        eps, n_images = eps_label(float(rows["eps"].iloc[0])), int(rows["n"].min())
        yield (
            f"Within ε = {eps}, no attack can break {_list(means)}: this is proven "
            f"(n = {n_images})."
        )


def _last_steps(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows at the largest step count."""
    return rows[rows["steps"] == rows["steps"].max()]


def _means(rows: "pd.DataFrame", column: str) -> dict[str, float]:
    """Mean over runs of a number, by method, in the order of COMPARED."""
    means = rows.groupby("method")[column].mean()
    return {method: float(means[method]) for method in COMPARED if method in means}


def _intervals_overlap(rows: "pd.DataFrame") -> bool:
    """Whether an interval of some run of Int overlaps one of Adv."""
    ends = rows.groupby("method").agg({"accuracy_low": "min", "accuracy_high": "max"})
    low, high = ends["accuracy_low"], ends["accuracy_high"]
    return bool(low["int"] <= high["adv"] and low["adv"] <= high["int"])


def _difference(means: dict[str, float]) -> float:
    """The accuracy of Int minus that of Adv, as printed with two decimals."""
    return round(round(means["int"], 2) - round(means["adv"], 2), 2)


def _comparison(means: dict[str, float]) -> str:
    """How the accuracy of Int compares with that of Adv."""
    difference = _difference(means)
    if not difference:
        return "as accurate as"
    return "more accurate than" if difference > 0 else "less accurate than"


def _compare(means: dict[str, float]) -> str:
    """The comparison with the difference, such as "0.12 less accurate than Adv"."""
    difference = abs(_difference(means))
    number = f"{difference:.2f} " if difference else ""
    return f"{number}{_comparison(means)} Adv"


def _list(means: dict[str, float]) -> str:
    """Such as "0.79 of Int's predictions, 0.91 of Adv's and 0.00 of Normal's"."""
    (first, value), *others = means.items()
    parts = [f"{value:.2f} of {METHODS[first]}'s predictions"]
    parts += [f"{value:.2f} of {METHODS[method]}'s" for method, value in others]
    return _and(parts)


def _and(parts: list[str]) -> str:
    """Such as "a, b and c"."""
    *before, last = parts
    return f"{', '.join(before)} and {last}" if before else last


def claim_lines(path: Path) -> list[str]:
    """The claims of a claims table, each with its data set, model and verdict.

    Networks that were not released have their run, too.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            f"{_pair_label(row['dataset'], row['model'])}{_run(row['run'])}: "
            f"{row['claim']}: {row['verdict']}{_numbers(row)}"
            for row in rows
        ]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise IrpipeError(f"{path}: not a claims table of this version; make it again") from error


def _run(run: str) -> str:
    return "" if run == "released" else f" ({run})"


def _numbers(row: dict[str, str]) -> str:
    """The difference that a verdict is about, with its interval and n; empty if it has none."""
    if not row["difference"]:
        return ""
    difference, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    return f" (difference {difference:+z.2f} [{low:z.2f}, {high:z.2f}], n = {row['n']})"
