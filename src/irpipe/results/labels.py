"""How people read a result: names of networks, attacks, eps and discrepancy measures; ranges."""

from collections.abc import Iterable

from irpipe.interpretability.discrepancy import all_measures
from irpipe.published import DATASETS, METHODS, MODELS
from irpipe.results.result import Result

# Two eps that differ by less are the same one; a step of 8-bit pixels is 4e-3.
EPS_TOLERANCE = 1e-6

# How people write norms.
NORM_SYMBOLS = {
    "linf": "\N{SCRIPT SMALL L}∞",
    "l2": "\N{SCRIPT SMALL L}2",
    "l1": "\N{SCRIPT SMALL L}1",
}

DatasetModel = tuple[str, str]  # data set, model


def dataset_model(result: Result) -> DatasetModel:
    """Data set and model of a result, as named in the config."""
    return result.attrs["dataset"], result.attrs["model"]


def result_name(result: Result) -> str:
    """The name of a result: `dataset/model/method/run/attack`."""
    keys = ("dataset", "model", "method", "run", "attack")
    return "/".join(str(result.attrs[key]) for key in keys)


def dataset_model_label(pair: DatasetModel) -> str:
    """Display name of a data set and model. Names that the paper does not have stay as they are."""
    dataset, model = pair
    return f"{DATASETS.get(dataset, dataset)}, {MODELS.get(model, model)}"


def method_label(result: Result, group: Iterable[Result]) -> str:
    """Display name of a result's method, with its run if that tells apart networks of `group`.

    So the run is left out if it is "released" or the only one.
    """
    method = str(result.attrs["method"])
    label = METHODS.get(method, method)
    run = result.attrs["run"]
    is_only_run = {other.attrs["run"] for other in group} <= {run}
    return label if is_only_run or run == "released" else f"{label} ({run})"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count and its noun, such as "1 step" or "2 steps"; `many` if the plural needs no s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def eps_label(eps: float) -> str:
    """An eps as people write it: "2/255" for a multiple of 1/255, else a decimal such as "0.05"."""
    multiple = eps * 255
    has_short_decimal = abs(eps - round(eps, 3)) <= EPS_TOLERANCE
    is_multiple = abs(multiple - round(multiple)) < 255 * EPS_TOLERANCE
    if is_multiple and not has_short_decimal:
        return f"{round(multiple)}/255"
    return f"{eps:.4g}"


def eps_norm(result: Result) -> str:
    """The norm in which eps bounds the attack's change: "linf", "l2" or "l1"."""
    return str(result.attrs.get("eps_norm", "linf"))


def bound_label(eps: float, norm: str) -> str:
    """An eps as a bound: "ε = 0.3", and "ε = 2 (ℓ2)" if it is no l-inf bound."""
    label = f"ε = {eps_label(eps)}"
    return label if norm == "linf" else f"{label} ({NORM_SYMBOLS[norm]})"


def duration(seconds: float) -> str:
    """A duration, such as "0.8 s", "42 s", "5:59 min" or "2:05 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}:{whole % 60:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


def number_ranges(numbers: Iterable[int]) -> str:
    """Numbers in rising order, with ranges of three or more as "4-9"."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    parts = [
        f"{part[0]}-{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in ranges
    ]
    return ", ".join(parts) or "–"


def measure_labels(result: Result) -> list[str]:
    """Discrepancy measures of a result, such as "l1 two", in the order of its array `measure`."""
    options = result.attrs["options"]
    if result.attrs["kind"] == "proposition1":
        # It has no such options: the proposition is about l1 and two classes, paper eq (4).
        options = {"interpreter": "cam", "norms": ["l1"], "class_sets": ["two"]}
    measures = all_measures(options["interpreter"], options["norms"], options["class_sets"])
    return [f"{measure.norm} {measure.class_set}" for measure in measures]
