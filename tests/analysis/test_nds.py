"""NDS and NSL by hand (C.5-7)."""

import math

import numpy as np
import pytest

from irpipe.analysis.nds import Scores, scores

NAN = math.nan
NORMALISED = [
    [4.0, 2.0, 3.0],  # running minimum 4 2 2: falls by 1/2 while the distance grows by 1/2
    [5.0, 9.0, 6.0],  # 5 5 5: no larger eps helps
    [8.0, NAN, 6.0],  # 8 6 from the points that count: falls by 1/4, grows by 1
    [NAN, NAN, NAN],
    [9.0, 9.0, 1.0],  # one point counts: unchanged
]
LINF_DISTANCE = [
    [0.2, 0.25, 0.3],
    [0.1, 0.2, 0.3],
    [0.1, 0.15, 0.2],
    [0.1, 0.2, 0.3],
    [0.1, 0.2, 0.3],
]
IS_VALID = [[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 0, 1]]


def score(**switches: bool) -> Scores:
    return scores(
        np.array(NORMALISED), np.array(LINF_DISTANCE), np.array(IS_VALID, bool), **switches
    )


def test_scores_by_hand() -> None:
    result = score()
    assert result.nds == pytest.approx((4 + 2 + 2 + 8 + 6) / 5)
    assert result.nsl_per_point == pytest.approx((1 + 0.25) / 5)
    assert result.nsl_per_image == pytest.approx((1 + 0.25) / 2)
    assert (result.n_images, result.n_points, result.n_without_slope) == (2, 5, 0)
    assert (result.low, result.high) == pytest.approx((8 / 3, 7))  # one of the two images twice


def test_unchanged_images_may_be_kept() -> None:
    result = score(keep_unchanged=True)
    assert result.nds == pytest.approx((4 + 2 + 2 + 15 + 8 + 6 + 1) / 9)
    assert result.nsl_per_point == pytest.approx(1.25 / 9)
    assert result.nsl_per_image == pytest.approx(1.25 / 4)
    assert (result.n_images, result.n_points) == (4, 9)


def test_the_plain_attack_may_be_left_out() -> None:
    # What remains is 2 2, 9 6, 6, nothing and 1. Only the second image changes.
    result = score(skip_pgd_point=True)
    assert (result.nds, result.n_images, result.n_points) == (pytest.approx(7.5), 1, 2)
    assert result.nsl_per_image == pytest.approx((3 / 9) / (0.1 / 0.2))


def test_scores_of_nothing_are_nan() -> None:
    result = scores(np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3), bool))
    assert (result.n_images, result.n_points) == (0, 0)
    assert all(math.isnan(value) for value in result[:5])


def test_an_image_whose_distance_stays_has_no_slope() -> None:
    distances = np.array([[0.1, 0.1], [0.1, 0.2]])
    result = scores(np.array([[2.0, 1], [2, 1]]), distances, np.ones((2, 2), bool))
    assert (result.n_images, result.n_without_slope) == (2, 1)
    assert (result.nsl_per_image, result.nds) == (0.5, 1.5)
    result = scores(np.array([[2.0, 1]]), distances[:1], np.ones((1, 2), bool))
    assert result.n_without_slope == 1
