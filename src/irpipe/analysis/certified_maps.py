"""What results of the kind certify_maps say of discrepancies and of robustness (C.6-4)."""

from typing import NamedTuple

import numpy as np

from irpipe.certification.certificate import MIN_MARGIN
from irpipe.results.result import Result

MAP_ARRAYS = (
    "eps",
    "class",
    "label",
    "certified_discrepancy",
    "attacked_discrepancy",
    "half_margin",
    "margin_lower_bound",
)


class Discrepancy(NamedTuple):
    """Proven upper bounds of the l1 discrepancy within eps, and what the attack found, `[N, E]`."""

    certified: np.ndarray
    attacked: np.ndarray


class Robustness(NamedTuple):
    """Which images are robust at which eps, bool `[N, E]`.

    - `by_proposition1`: proven, since the certified discrepancy stays below half the margin for
      every target (paper eq (5));
    - `by_margin`: proven, since the lower bound of every margin is positive;
    - `proposition1_limit`: whether the discrepancies that the attack found stay below half the
      margins. No bound can prove more images by Proposition 1.
    """

    by_proposition1: np.ndarray
    by_margin: np.ndarray
    proposition1_limit: np.ndarray


def one_class(result: Result) -> Discrepancy:
    """The 1-class discrepancy, of the true class."""
    return _of_classes(result, result.arrays["label"])


def two_class(result: Result) -> Discrepancy:
    """The 2-class discrepancy, of the true class and the best other class of the clean image."""
    # The clean margins are stored at all eps but 0.
    margins = result.arrays["half_margin"][:, result.arrays["eps"].argmax()]
    return _of_classes(result, np.where(_is_target(result), margins, np.inf).argmin(axis=1))


def robustness(result: Result) -> Robustness:
    """Which images are robust. As of any margin, more than MIN_MARGIN is demanded."""
    half_margin = result.arrays["half_margin"]
    margins = (
        2 * (half_margin - result.arrays["certified_discrepancy"]),
        result.arrays["margin_lower_bound"],
        2 * (half_margin - result.arrays["attacked_discrepancy"]),
    )
    is_true_class = ~_is_target(result)[:, None]
    return Robustness(*(((margin > MIN_MARGIN) | is_true_class).all(axis=2) for margin in margins))


def _is_target(result: Result) -> np.ndarray:
    """Whether a class is another than the true one, `[N, classes]`."""
    is_target: np.ndarray = result.arrays["class"] != result.arrays["label"][:, None]
    return is_target


def _of_classes(result: Result, classes: np.ndarray) -> Discrepancy:
    """The discrepancies for the true class and `classes` `[N]`."""
    rows = np.arange(len(classes))
    return Discrepancy(
        result.arrays["certified_discrepancy"][rows, :, classes],
        result.arrays["attacked_discrepancy"][rows, :, classes],
    )
