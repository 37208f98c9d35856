"""Discrepancies, NDS and NSL by hand, and what reports make of them (protocol C.5)."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.maps.discrepancy import distance, normalised, specifications
from irpipe.reports import erratum, sneak, tradeoff
from irpipe.reports.parts.nds import Scores, scores

CLEAN = torch.tensor([[[[0.0, 4], [2, 1]], [[1, 1], [1, 3]]]])  # one image, two maps; spans 4 and 2
MOVED = torch.tensor([[[[3.0, 0], [2, 1]], [[1, 1], [1, 2]]]])  # changes 3, -4 and -1


@pytest.mark.parametrize(
    ("norm", "root", "found"),
    [("l1", True, [7, 1]), ("l1", False, [7, 1]), ("l2", True, [5, 1]), ("l2", False, [25, 1])],
)
def test_distances_by_hand(norm: str, root: bool, found: list[float]) -> None:
    assert distance(MOVED, CLEAN, norm, root).tolist() == [found]
    assert distance(MOVED.flatten(2), CLEAN.flatten(2), norm, root).tolist() == [found]


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_where_nothing_changed_the_gradient_is_zero(norm: str) -> None:
    moved = CLEAN.clone().requires_grad_()
    distance(moved, CLEAN, norm).sum().backward()  # type: ignore[no-untyped-call]
    assert moved.grad is not None
    assert not moved.grad.any()


@pytest.mark.parametrize(("norm", "found"), [("l1", (7 / 4 + 1 / 2) / 2), ("l2", (5 / 4 + 1 / 2) / 2)])
def test_normalised_discrepancy_by_hand(norm: str, found: float) -> None:
    value, constant = normalised(MOVED, CLEAN, norm)
    assert value.tolist() == pytest.approx([found])
    assert constant.tolist() == [0]


def test_constant_maps_are_left_out_and_counted() -> None:
    def with_constant(maps: Tensor, count: int) -> Tensor:
        return torch.cat([torch.full((1, count, 2, 2), 7.0), maps], dim=1)

    value, constant = normalised(with_constant(MOVED, 3), with_constant(CLEAN, 3), "l1")
    assert (value.tolist(), constant.tolist()) == ([1.125], [3])
    value, constant = normalised(MOVED, torch.ones_like(CLEAN), "l1")
    assert math.isnan(value.item())
    assert constant.tolist() == [2]


def test_specifications_stand_in_a_fixed_order() -> None:
    pairs = [("l2", "one"), ("l2", "all"), ("l1", "one"), ("l1", "all")]
    assert [tuple(s) for s in specifications("cam", ["l2", "l1"], ["one", "all"])] == pairs
    assert [tuple(s) for s in specifications("repr", ["l2", "l1"], ["one", "all"])] == [("l2", "two"), ("l1", "two")]


# --- NDS and NSL -----------------------------------------------------------------------------------------

NAN = math.nan
VALUES = [
    [4.0, 2.0, 3.0],  # running minimum 4 2 2: fall 1/2 over growth 1/2
    [5.0, 9.0, 6.0],  # 5 5 5: no radius helps
    [8.0, NAN, 6.0],  # 8 6 from valid points: fall 1/4 over growth 1
    [NAN, NAN, NAN],
    [9.0, 9.0, 1.0],  # one valid point: unchanged
]
RADII = [[0.2, 0.25, 0.3], [0.1, 0.2, 0.3], [0.1, 0.15, 0.2], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3]]
VALID = [[1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 0, 1]]


def score(**switches: bool) -> Scores:
    return scores(np.array(VALUES), np.array(RADII), np.array(VALID, bool), **switches)


def test_scores_by_hand() -> None:
    found = score()
    assert found.nds == pytest.approx((4 + 2 + 2 + 8 + 6) / 5)
    assert found.nsl_per_point == pytest.approx((1 + 0.25) / 5)
    assert found.nsl_per_image == pytest.approx((1 + 0.25) / 2)
    assert (found.images, found.points, found.flat) == (2, 5, 0)
    assert (found.low, found.high) == pytest.approx((8 / 3, 7))  # either image twice


def test_unchanged_images_may_be_kept() -> None:
    found = score(keep_unchanged=True)
    assert found.nds == pytest.approx((4 + 2 + 2 + 15 + 8 + 6 + 1) / 9)
    assert found.nsl_per_point == pytest.approx(1.25 / 9)
    assert found.nsl_per_image == pytest.approx(1.25 / 4)
    assert (found.images, found.points) == (4, 9)


def test_the_plain_attack_may_be_left_out() -> None:
    found = score(isa_only=True)  # 2 2, 9 6, 6, none, 1: only the second falls
    assert (found.nds, found.images, found.points) == (pytest.approx(7.5), 1, 2)
    assert found.nsl_per_image == pytest.approx((3 / 9) / (0.1 / 0.2))


def test_scores_of_nothing_are_nan() -> None:
    found = scores(np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3), bool))
    assert (found.images, found.points) == (0, 0)
    assert all(math.isnan(value) for value in found[:5])


def test_an_image_whose_radius_stays_has_no_slope() -> None:
    radii = np.array([[0.1, 0.1], [0.1, 0.2]])
    found = scores(np.array([[2.0, 1], [2, 1]]), radii, np.ones((2, 2), bool))
    assert (found.images, found.flat, found.nsl_per_image, found.nds) == (2, 1, 0.5, 1.5)
    assert scores(np.array([[2.0, 1]]), radii[:1], np.ones((1, 2), bool)).flat == 1


# --- reports ---------------------------------------------------------------------------------------------


def made(heights: dict[str, float], **attrs: object) -> Result:
    """A result of 4 images whose discrepancy falls from a height, by classes, to 3/4 of it at 1.5 times the radius."""
    points = np.stack([np.outer([1, 1, 1, 2], [1.0, 0.75]) * height for height in heights.values()], axis=2)
    shape = points.shape
    radius = np.broadcast_to(np.array([0.1, 0.15])[None, :, None], shape)
    arrays = {"specification": np.arange(shape[2]), "index": np.array([5, 3, 8, 1])}
    arrays |= {"normalised": points, "discrepancy": 10 * points, "radius": radius, "valid": np.ones(shape, bool)}
    arrays |= {"capped": np.zeros(shape, bool), "gamma": np.full(shape, 0.01)}
    arrays["capped"][0, 1] = True
    spec = {"interpreter": "cam", "norms": ["l1"], "classes": [*heights], "penalties": [1.5]}
    known: dict[str, object] = {"dataset": "mnist", "model": "small", "method": "normal", "run": "released"}
    known |= {"attack": "isa", "kind": "isa", "code": "c0de", "network_sha256": "feed", "data_sha256": "beef"}
    return Result(known | {"spec": spec} | attrs, arrays)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_stands_beside_the_published_values(tmp_path: Path) -> None:
    result = made({"one": 2.5, "two": 3.0, "all": 1.5})  # NDS 35/32 of the height, NSL 1/2 an image, 1/4 a point
    paths = sneak.report([result], tmp_path / "t", title="T", published="1")
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex", ".html"]
    rows = {row["classes"]: row for row in records(paths[0])}
    assert [float(rows[c]["nds"]) for c in ("one", "two", "all")] == [2.734375, 3.28125, 1.640625]
    assert [rows[c]["published_nds"] for c in ("one", "two", "all")] == ["3.0723", "3.2672", "2.5289"]
    assert [rows[c]["mark"] for c in ("one", "two", "all")] == ["*", "", "**"]
    assert {(row["nsl_per_point"], row["nsl_per_image"], row["images"], row["points"]) for row in rows.values()} == {
        ("0.25", "0.5", "4", "8")
    }
    claims = [(row["largest_nds"], row["smallest_nsl"]) for row in rows.values()]
    assert claims == [("", ""), ("holds", "does not hold"), ("", "")]  # equal slopes
    for path in paths[1:]:
        assert "does not hold" in path.read_text()


def test_claims_do_not_hold_where_another_measure_is_larger(tmp_path: Path) -> None:
    (two,) = (
        row
        for row in records(sneak.report([made({"one": 4, "two": 3})], tmp_path / "t", title="T")[0])
        if row["largest_nds"]
    )
    assert two["largest_nds"] == "does not hold"
    assert two["published_nds"] == ""


def test_several_attacks_share_a_table(tmp_path: Path) -> None:
    spec = made({"two": 1.0}).attrs["spec"] | {"interpreter": "repr"}
    results = [made({"one": 4, "two": 3}), made({"two": 2.4}, attack="isa_repr", spec=spec)]
    rows = records(sneak.report(results, tmp_path / "t", title="T", attacks=["isa", "isa_repr"], published="1")[0])
    assert [(row["interpreter"], row["classes"], row["published_nds"]) for row in rows] == [
        ("cam", "one", "3.0723"),
        ("cam", "two", "3.2672"),
        ("repr", "two", "2.3668"),
    ]
    assert "–" in (tmp_path / "t.md").read_text()  # Repr has no 1-class measure


def test_only_the_networks_of_table_1_have_published_values(tmp_path: Path) -> None:
    for attrs in ({"method": "int"}, {"model": "pool"}):
        rows = records(sneak.report([made({"two": 3}, **attrs)], tmp_path / "t", title="T", published="1")[0])
        assert [row["published_nds"] for row in rows] == [""]


def test_reports_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="t: wants results of attack 'isa_ig'; found isa"):
        sneak.report([made({"two": 3})], tmp_path / "t", title="T", attacks=["isa_ig"])
    with pytest.raises(IrpipeError, match="t: mnist/small/normal/released/isa does not have test image 4"):
        tradeoff.report([made({"two": 3})], tmp_path / "t", title="T", image=4)
    for option, message in (({}, "has no image with valid"), ({"image": 3}, "has no valid attack on test image 3")):
        idle = made({"two": 3})
        idle.arrays["valid"][:] = False
        with pytest.raises(IrpipeError, match=f"t: mnist/small/normal/released/isa {message}"):
            tradeoff.report([idle], tmp_path / "t", title="T", **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [None, 3])
def test_figure_is_drawn_with_equal_bytes(image: int | None, tmp_path: Path) -> None:
    results = [made({"one": 2.5, "two": 3.0}, model=model) for model in ("small", "pool")]
    first, second = (
        tradeoff.report(r, tmp_path / n / "f", title="T", image=image)
        for r, n in ((results, "a"), (results[::-1], "b"))
    )
    assert [path.name for path in first] == ["f.png", "f.pdf", "f.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_lines_of_the_figure_by_hand() -> None:
    result = made({"one": 2.0})
    result.arrays["valid"][0, 0] = False
    x, y, low, high = tradeoff._line(result, 0, None, "t")
    assert (x.tolist(), y.tolist()) == ([1, 1.5], pytest.approx([20 * 4 / 3, 15 * 4 / 3]))  # images 2, 3, 4
    assert (low[0], high[0]) == (20, 40)
    x, y, *_ = tradeoff._line(result, 0, 1, "t")
    assert (x.tolist(), y.tolist()) == ([0.1, 0.15], [40, 30])
    assert tradeoff._line(result, 0, 5, "t")[1].tolist() == [15]


def found(result: Result, tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    rows = records(erratum.report([result], tmp_path / "e", title="T", attacks=["isa"])[0])
    return {item: [row for row in rows if row["item"] == item] for item in {row["item"] for row in rows}}


def test_erratum_of_table_1(tmp_path: Path) -> None:
    rows = found(made({"one": 2.5, "two": 3.0}), tmp_path)
    assert set(rows) == {"Divisor of NSL", "Truncated search"}
    (row,) = rows["Divisor of NSL"]
    assert (row["what"], row["printed"]) == ("CAM, \N{SCRIPT SMALL L}1 2-class", "NSL 0.0223")
    assert row["ours"] == "0.2500 per point, 0.5000 per image"
    assert rows["Truncated search"][0]["ours"] == "2 of 8 searches (25.0%) end at the cap"


def test_erratum_finds_squared_norms_and_few_images(tmp_path: Path) -> None:
    spec: dict[str, Any] = made({"one": 1}).attrs["spec"] | {"norms": ["l2"]}
    squared = made({"one": 0.5}, spec=spec)
    squared.arrays["radius"] = 0.1 * np.broadcast_to(np.array([1, 3])[None, :, None], (4, 2, 1))
    (row,) = found(squared, tmp_path)["Norm or its square"]
    assert (row["printed"], row["ours"]) == ("NDS 0.3061, NSL 0.1505", "NDS 0.5469, NSL 0.0625")
    assert row["note"] == "squared: NDS 0.3418, NSL 0.1094, which is nearer to what is printed"
    few = made({"one": 0.306}, spec=spec)
    few.arrays["valid"][:3] = False
    rows = found(few, tmp_path)
    assert set(rows) == {"Few images", "Truncated search"}
    assert rows["Few images"][0]["note"] == "1 of 4 images are kept, with 2 points"


def test_only_the_search_concerns_other_networks(tmp_path: Path) -> None:
    rows = found(made({"two": 3.0}, method="int"), tmp_path)
    assert set(rows) == {"Truncated search"}
    assert rows["Truncated search"][0]["what"] == "bisection on lambda, CAM, Int"
