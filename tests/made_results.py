"""Results whose numbers are known, because they are made by hand."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from irpipe.analysis.claims import CLAIMS
from irpipe.results.result import Result, write_result

EPS = [0.0, 0.05, 0.1, 0.2, 0.3]
# Images correct under an attack of 1 and 100 steps: at eps 0.3, the first 139 and 40 of 200.
FALLING = {(eps, count): range(200 - int(200 * eps) - count) for eps in EPS for count in (1, 100)}
PGD_OPTIONS = {
    "step_size": 0.01,
    "step_size_factor": None,
    "random_start": False,
    "grad_dtype": "float32",
}
ABOUT_AS_ROBUST, *_ = CLAIMS


def make_result(
    kind: str,
    correct: dict[tuple[float, int], range],
    steps: list[int],
    n: int = 200,
    **attrs: Any,
) -> Result:
    """A result on MNIST Small at EPS.

    `correct[eps, step count]` is the range of the images that are correct there; where it is not
    given, all are. The label of image i is i % 10, and a misclassified image is taken for the next
    class, at a distance of eps.
    """
    is_correct = np.ones((n, len(EPS), len(steps)), bool)
    for (eps, count), images in correct.items():
        is_correct[:, EPS.index(eps), steps.index(count)] = np.isin(np.arange(n), images)
    label = np.arange(n) % 10
    arrays = {
        "eps": np.array(EPS),
        "steps": np.array(steps),
        "indices": np.arange(n),
        "label": label,
        "prediction": np.where(is_correct, label[:, None, None], (label[:, None, None] + 1) % 10),
        "correct": is_correct,
        "loss": np.where(is_correct, 0.5, 2.0).astype(np.float32),
        "linf_distance": np.where(is_correct, 0.0, np.array(EPS)[:, None]),
    }
    if kind == "margin_pgd":
        arrays["last_is_correct"] = is_correct.copy()
        arrays["grad_linf"] = np.ones(is_correct.shape, np.float32)
    default_attrs: dict[str, Any] = {
        "versions": {"device": "a chip", "torch": "2.13.0"},
        "dataset": "mnist",
        "model": "small",
        "method": "int",
        "run": "released",
        "attack": kind,
        "kind": kind,
        "seed": 99,
        "code_hash": "c0de",
        "network_sha256": "feed",
        "data_sha256": "beef",
        "train_eps": 0.3,
        "class_names": [str(digit) for digit in range(10)],
        "device": "cpu",
        "options": PGD_OPTIONS if kind == "pgd" else {},
    }
    return Result(default_attrs | attrs, arrays)


def make_proofs(
    counts: dict[float, tuple[int, int]], n: int = 200, *, leaves: int = 6000, **attrs: Any
) -> Result:
    """A result of kind `certify` on MNIST Small at EPS.

    `counts[eps]` is how many images are certified there, and how many are not broken: the first
    ones. Where it is not given, all are certified.
    """
    certified = {eps: range(counts.get(eps, (n, n))[0]) for eps in EPS}
    correct = {(eps, leaves): range(n_correct) for eps, (_, n_correct) in counts.items()}
    attrs["options"] = {"leaves": leaves, "seconds": None}
    result = make_result("certify", correct, [leaves], n, **attrs)
    is_certified = np.array([np.isin(np.arange(n), certified[eps]) for eps in EPS]).T[:, :, None]
    status = np.where(is_certified, 1, np.where(result.arrays["correct"], 2, 3))
    status[:, EPS.index(0)] = 0
    result.arrays["status"] = status
    return result


def make_map_result(
    method: str, tau: float, unchanged: range, correct: range, hinge_weight: float = 0.0
) -> Result:
    """A result of AAI on CAM, with one tau for all images.

    `unchanged` are the images whose prediction does not change, at any eps, and `correct` those
    that are correct at eps 0.3.
    """
    options = {"hinge_weight": hinge_weight, "interpreter": "cam", "loss": "topk"}
    name = f"aai{hinge_weight:g}"
    result = make_result(
        "aai", {(0.3, 200): correct}, [200], method=method, options=options, attack=name
    )
    shape = result.arrays["correct"].shape
    is_unchanged = np.isin(np.arange(shape[0]), unchanged)[:, None, None] & np.ones(shape, bool)
    result.arrays["kendall_tau"] = np.full(shape, tau)
    result.arrays["tau_defined"] = np.ones(shape, bool)
    result.arrays["prediction_unchanged"] = is_unchanged
    return result


def make_pgd_pair(method: str, pgd: range, margin_pgd: range) -> list[Result]:
    """Results of PGD and of margin PGD on one network, with the images correct at eps 0.3."""
    return [
        make_result("pgd", {(0.3, 200): pgd}, [200], method=method),
        make_result("margin_pgd", {(0.3, 100): margin_pgd}, [1, 100], method=method),
    ]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by column."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def make_isa_result() -> Result:
    """Four images, two points, and the measures l1 two and l2 two."""
    result = make_result("isa", {}, [1, 2], n=4)
    arrays = {
        name: array[:, :2] if array.ndim == 3 else array for name, array in result.arrays.items()
    }
    del arrays["eps"], arrays["steps"]
    arrays["measure"] = np.array([0, 1])
    arrays["normalised_discrepancy"] = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    arrays["is_valid"] = np.zeros((4, 2, 2), bool)
    arrays["is_valid"][[0, 2], 0, 1] = True  # discrepancies 1 and 9
    options = {"interpreter": "cam", "norms": ["l1", "l2"], "class_sets": ["two"]}
    return Result(result.attrs | {"options": options}, arrays)


def write_results(results: list[Result], folder: Path) -> None:
    """Write results where the workflow has them."""
    for result in results:
        parts = [str(result.attrs[key]) for key in ("dataset", "model", "method", "run", "attack")]
        path = folder.joinpath(*parts).with_suffix(".h5")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(path, result)
