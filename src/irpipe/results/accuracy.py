"""Adversarial test accuracy of a result at one eps and step count, with its interval (D.5)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from irpipe.certification.status import Status
from irpipe.results.labels import EPS_TOLERANCE
from irpipe.results.result import Result
from irpipe.statistics import wilson


class Accuracy(NamedTuple):
    """Share `value` of `n` images that are classified correctly, with its 95% Wilson interval."""

    value: float
    n: int
    low: float
    high: float


def eps_step_indices(result: Result, eps: float, steps: int) -> tuple[int, int] | None:
    """Indices of an eps and a step count on the axes E and S; None means not evaluated there."""
    is_eps = np.isclose(result.arrays["eps"], eps, rtol=0, atol=EPS_TOLERANCE)
    eps_indices = np.flatnonzero(is_eps)
    step_indices = np.flatnonzero(result.arrays["steps"] == steps)
    if not eps_indices.size or not step_indices.size:
        return None
    return int(eps_indices[0]), int(step_indices[0])


def is_correct(result: Result, eps: float, steps: int) -> np.ndarray | None:
    """Whether each image is classified correctly at one eps and step count, bool `[N]`.

    None means that the result was not evaluated there.
    """
    indices = eps_step_indices(result, eps, steps)
    if indices is None:
        return None
    correct: np.ndarray = result.arrays["correct"][:, *indices].astype(bool)
    return correct


def is_certified(result: Result, eps: float) -> np.ndarray | None:
    """Whether each image is certified at one eps by a result of kind `certify`, bool `[N]`.

    None means that the result was not evaluated there.
    """
    indices = eps_step_indices(result, eps, int(result.arrays["steps"][0]))
    return None if indices is None else certified_at(result.arrays, *indices)


def certified_at(arrays: Mapping[str, np.ndarray], point: int, position: int) -> np.ndarray:
    """Whether each image is certified in one cell of a result of kind `certify`, bool `[N]`.

    At eps = 0, where nothing is proven, only the clean image is within eps: a correct one is
    certified.
    """
    cell = (slice(None), point, position)
    if not arrays["eps"][point]:
        return arrays["correct"][cell].astype(bool)
    is_certified: np.ndarray = arrays["status"][cell] == Status.CERTIFIED
    return is_certified


def accuracy(result: Result, eps: float, steps: int) -> Accuracy | None:
    """Adversarial test accuracy at one eps and step count; None means not evaluated there."""
    correct = is_correct(result, eps, steps)
    return None if correct is None else accuracy_of(correct)


def accuracy_of(correct: np.ndarray) -> Accuracy:
    """Accuracy from whether each image is classified correctly, bool `[N]`, N > 0."""
    n_correct = int(correct.sum())
    n = len(correct)
    return Accuracy(n_correct / n, n, *wilson(n_correct, n))
