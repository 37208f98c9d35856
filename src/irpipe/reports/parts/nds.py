"""NDS and NSL: how much discrepancy an attack cannot avoid, and how much less of it a larger radius needs (C.5-7)."""

import math
from typing import NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.maps.discrepancy import Specification, specifications
from irpipe.published import Resistance
from irpipe.stats import bootstrap

ARRAYS = ("specification", "normalised", "radius", "valid", "capped")  # of a result that has scores


class Scores(NamedTuple):
    """Scores of one specification, with what they rest on; NaN where that is nothing.

    `nds`: mean normalised discrepancy over the points of all images kept; `low` to `high`: its 95% bootstrap interval,
    resampling images. `nsl_per_point`, `nsl_per_image`: sum of the images' slopes over the number of points, and over
    that of slopes (C.5 I2). `flat`: images kept without a slope, because their radius did not change.
    """

    nds: float
    low: float
    high: float
    nsl_per_point: float
    nsl_per_image: float
    images: int
    points: int
    flat: int

    def apart(self, printed: Resistance) -> float:
        """How far NDS and NSL per point lie from printed ones: the larger |log ratio|; infinity where one has none."""
        pairs = ((self.nds, printed.nds), (self.nsl_per_point, printed.nsl))
        return max(abs(math.log(ours / theirs)) if ours > 0 else math.inf for ours, theirs in pairs)


def measured_by(result: Result) -> list[Specification]:
    """The specifications of a result, in the order of its last axis."""
    spec = result.attrs["spec"]
    return specifications(spec["interpreter"], spec["norms"], spec["classes"])


def of(result: Result, place: int, *, squared: bool = False, **switches: bool) -> Scores:
    """Scores of a result's specification at `place`, with the `switches` of `scores`.

    Squared: of the square of each normalised discrepancy, what Table 1 seems to hold in places.
    """
    normalised, radius, valid = (result.arrays[name][:, :, place] for name in ("normalised", "radius", "valid"))
    return scores(normalised**2 if squared else normalised, radius, valid, **switches)


def scores(
    normalised: np.ndarray,
    radius: np.ndarray,
    valid: np.ndarray,
    *,
    isa_only: bool = False,  # C.5 I3: leave out the first point, the plain attack
    keep_unchanged: bool = False,  # C.5 I4: keep images that no radius helps; their slope is 0
) -> Scores:
    """Scores of per-image arrays `[N, E]`: normalised discrepancies, measured l-inf radii, and which points count.

    Along an image's valid points the discrepancies give way to their running minimum: an attack may do with the image
    of a smaller radius. Its slope is (first - last)/first over (last radius - first radius)/first radius.
    """
    start = 1 if isa_only else 0
    means, points, slopes = [], [], []
    for values, radii, counts in zip(normalised[:, start:], radius[:, start:], valid[:, start:], strict=True):
        least, reach = np.minimum.accumulate(values[counts]), radii[counts]
        if not len(least) or (least[0] == least[-1] and not keep_unchanged):
            continue
        means.append(least.mean())
        points.append(len(least))
        fall = least[0] - least[-1]
        if fall == 0:
            slopes.append(0.0)
        elif reach[0] != reach[-1]:
            slopes.append(fall / least[0] / ((reach[-1] - reach[0]) / reach[0]))
    if not points:
        return Scores(np.nan, np.nan, np.nan, np.nan, np.nan, 0, 0, 0)
    weights, total = np.array(points), sum(points)
    nds = float(np.average(means, weights=weights))
    interval = bootstrap(np.array(means), weights=weights)
    per_image = float(np.mean(slopes)) if slopes else np.nan
    return Scores(nds, *interval, float(sum(slopes)) / total, per_image, len(points), total, len(points) - len(slopes))
