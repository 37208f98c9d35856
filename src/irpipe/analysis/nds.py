"""NDS and NSL of sneaking attacks (paper Sec. 5, C.5-7).

NDS says how much discrepancy an attack cannot avoid, NSL how much less of it a larger eps needs.
"""

import math
from typing import NamedTuple

import numpy as np

from irpipe.interpretability.discrepancy import DiscrepancyMeasure, all_measures
from irpipe.published import Table1Value
from irpipe.results.result import Result
from irpipe.statistics import bootstrap

# Arrays that a result must have for its scores.
NDS_ARRAYS = ("measure", "normalised_discrepancy", "linf_distance", "is_valid", "gamma_capped")


class Scores(NamedTuple):
    """NDS and NSL of one measure. A score of no image is NaN.

    - nds: mean normalised discrepancy of all points of the images that count;
    - low, high: the 95% bootstrap interval of NDS, which resamples images;
    - nsl_per_point, nsl_per_image: sum of the images' slopes, divided by `n_points` as in the
      released code, and by the number of slopes as in the paper (C.5 I2);
    - n_images, n_points: images that count, and their points;
    - n_without_slope: images that count and have no slope, because the discrepancy falls
      although the l-inf distance stays the same.
    """

    nds: float
    low: float
    high: float
    nsl_per_point: float
    nsl_per_image: float
    n_images: int
    n_points: int
    n_without_slope: int

    def log_distance(self, published: Table1Value) -> float:
        """The larger |log ratio| of NDS and NSL per point to the published values.

        Infinity if a score is NaN or not positive.
        """
        pairs = ((self.nds, published.nds), (self.nsl_per_point, published.nsl))
        return max(
            abs(math.log(value / reference)) if value > 0 else math.inf
            for value, reference in pairs
        )


def measures_of(result: Result) -> list[DiscrepancyMeasure]:
    """The measures of a result of `isa`, in the order of its last axis."""
    options = result.attrs["options"]
    return all_measures(options["interpreter"], options["norms"], options["class_sets"])


def scores_of(
    result: Result, measure_index: int, *, squared: bool = False, **switches: bool
) -> Scores:
    """Scores of one measure of a result, with the `switches` of `scores`.

    `squared` takes the square of each normalised discrepancy, which some cells of Table 1 fit
    better (C.5 I5).
    """
    normalised, linf_distance, is_valid = (
        result.arrays[name][:, :, measure_index]
        for name in ("normalised_discrepancy", "linf_distance", "is_valid")
    )
    return scores(normalised**2 if squared else normalised, linf_distance, is_valid, **switches)


def scores(
    normalised: np.ndarray,
    linf_distance: np.ndarray,
    is_valid: np.ndarray,
    *,
    # Leave out the first point, the plain attack (C.5 I3).
    skip_pgd_point: bool = False,
    # Keep images whose discrepancy no larger eps lowers, with slope 0 (C.5 I4).
    keep_unchanged: bool = False,
) -> Scores:
    """Scores from arrays `[N, E]`: normalised discrepancy, l-inf distance, which points count.

    C.5-7: along an image's points that count, the running minimum replaces the discrepancy. At
    a larger eps, an attack may still return the image of a smaller one.
    """
    first = 1 if skip_pgd_point else 0
    means: list[float] = []
    point_counts: list[int] = []
    slopes: list[float] = []
    for image_values, image_distances, counts in zip(
        normalised[:, first:], linf_distance[:, first:], is_valid[:, first:], strict=True
    ):
        minima = np.minimum.accumulate(image_values[counts])
        distances = image_distances[counts]
        if not len(minima) or (minima[0] == minima[-1] and not keep_unchanged):
            continue
        means.append(minima.mean())
        point_counts.append(len(minima))
        slope = _slope(minima, distances)
        if slope is not None:
            slopes.append(slope)
    if not means:
        return Scores(np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0, 0)
    weights = np.array(point_counts)
    n_points = sum(point_counts)
    low, high = bootstrap(np.array(means), weights=weights)
    return Scores(
        nds=float(np.average(means, weights=weights)),
        low=low,
        high=high,
        nsl_per_point=float(sum(slopes)) / n_points,
        nsl_per_image=float(np.mean(slopes)) if slopes else np.nan,
        n_images=len(means),
        n_points=n_points,
        n_without_slope=len(means) - len(slopes),
    )


def _slope(minima: np.ndarray, distances: np.ndarray) -> float | None:
    """Slope of one image (C.5-7), with d the running minima and r the l-inf distances.

        ((d_first - d_last) / d_first) / ((r_last - r_first) / r_first)

    0 if d does not fall; None if d falls at an equal r.
    """
    fall = minima[0] - minima[-1]
    if fall == 0:
        return 0.0
    if distances[0] == distances[-1]:
        return None
    growth = (distances[-1] - distances[0]) / distances[0]
    return float(fall / minima[0] / growth)
