"""What reports make of ISA: Table 1, Figure 2 and their errata, on results of known scores."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irpipe.errors import IrpipeError
from irpipe.reports import errata_table, isa_curve, isa_table
from irpipe.results.result import Result


def make_result(heights: dict[str, float], **attrs: object) -> Result:
    """A result of 4 images on MNIST Small Normal, with a height for each class set.

    The discrepancy falls from the height to 3/4 of it at 1.5 times eps*.
    """
    curves = [np.outer([1, 1, 1, 2], [1.0, 0.75]) * height for height in heights.values()]
    normalised = np.stack(curves, axis=2)
    shape = normalised.shape
    gamma_capped = np.zeros(shape, bool)
    gamma_capped[0, 1] = True
    arrays = {
        "measure": np.arange(shape[2]),
        "indices": np.array([5, 3, 8, 1]),
        "normalised_discrepancy": normalised,
        "discrepancy": 10 * normalised,
        "linf_distance": np.broadcast_to(np.array([0.1, 0.15])[None, :, None], shape),
        "is_valid": np.ones(shape, bool),
        "gamma": np.full(shape, 0.01),
        "gamma_capped": gamma_capped,
    }
    defaults: dict[str, object] = {
        "dataset": "mnist",
        "model": "small",
        "method": "normal",
        "run": "released",
        "attack": "isa",
        "kind": "isa",
        "code_hash": "c0de",
        "network_sha256": "feed",
        "data_sha256": "beef",
        "options": {
            "interpreter": "cam",
            "norms": ["l1"],
            "class_sets": [*heights],
            "eps_multipliers": [1.5],
        },
    }
    return Result(defaults | attrs, arrays)


def with_options(**options: Any) -> dict[str, Any]:
    return make_result({"one": 1}).attrs["options"] | options


def ig_options(heights: dict[str, float]) -> dict[str, Any]:
    return with_options(interpreter="ig", class_sets=[*heights])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- Table 1 ---


def table_rows(results: list[Result], tmp_path: Path, **options: Any) -> list[dict[str, str]]:
    return read_rows(isa_table.report(results, tmp_path / "t", title="T", **options)[0])


def test_table_has_published_values_next_to_measured_ones(tmp_path: Path) -> None:
    # NDS is 35/32 of the height; NSL is 1/2 per image and 1/4 per point.
    result = make_result({"one": 2.5, "two": 3.0, "all": 1.5})
    paths = isa_table.report([result], tmp_path / "t", title="T", published="1")
    assert [path.suffix for path in paths] == [".csv", ".parquet", ".md", ".tex", ".html"]
    rows = {row["class_set"]: row for row in read_rows(paths[0])}
    in_order = [rows[class_set] for class_set in ("one", "two", "all")]
    assert [float(row["nds"]) for row in in_order] == [2.734375, 3.28125, 1.640625]
    assert [row["published_nds"] for row in in_order] == ["3.0723", "3.2672", "2.5289"]
    assert [row["mark"] for row in in_order] == ["*", "", "**"]
    names = ("nsl_per_point", "nsl_per_image", "n_images", "n_points")
    assert {tuple(row[name] for name in names) for row in in_order} == {("0.25", "0.5", "4", "8")}
    claims = [(row["largest_nds"], row["smallest_nsl"]) for row in in_order]
    assert claims == [("", ""), ("holds", "does not hold"), ("", "")]  # the slopes are equal
    for path in paths[2:]:
        assert "does not hold" in path.read_text(encoding="utf-8")


def test_claims_do_not_hold_where_another_measure_is_larger(tmp_path: Path) -> None:
    rows = table_rows([make_result({"one": 4, "two": 3})], tmp_path)
    (two,) = (row for row in rows if row["largest_nds"])
    assert two["largest_nds"] == "does not hold"
    assert two["published_nds"] == ""


def test_a_measure_without_a_score_leaves_the_claims_open(tmp_path: Path) -> None:
    result = make_result({"one": 4, "two": 3})
    result.arrays["is_valid"][:, :, 0] = False
    rows = {row["class_set"]: row for row in table_rows([result], tmp_path)}
    assert (rows["one"]["n_images"], rows["two"]["n_images"]) == ("0", "4")
    assert (rows["two"]["largest_nds"], rows["two"]["smallest_nsl"]) == ("", "")


def test_several_attacks_share_a_table(tmp_path: Path) -> None:
    options = with_options(interpreter="repr", class_sets=["two"])
    results = [
        make_result({"one": 4, "two": 3}),
        make_result({"two": 2.4}, attack="isa_repr", options=options),
    ]
    rows = table_rows(results, tmp_path, attacks=["isa", "isa_repr"], published="1")
    assert [(row["interpreter"], row["class_set"], row["published_nds"]) for row in rows] == [
        ("cam", "one", "3.0723"),
        ("cam", "two", "3.2672"),
        ("repr", "two", "2.3668"),
    ]
    assert "–" in (tmp_path / "t.md").read_text(encoding="utf-8")  # Repr has no 1-class measure


def test_rows_of_integrated_gradients_have_published_values_and_claims(tmp_path: Path) -> None:
    heights = {"one": 6.0, "two": 6.5, "all": 4.0}
    result = make_result(heights, attack="isa_ig", options=ig_options(heights))
    rows = table_rows([result], tmp_path, attacks=["isa_ig"], published="1")
    assert [row["published_nds"] for row in rows] == ["6.3604", "6.7884", "4.3667"]
    assert [row["mark"] for row in rows] == ["", "", ""]
    assert rows[1]["largest_nds"] == "holds"
    assert "| IG" in (tmp_path / "t.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("attrs", [{"method": "int"}, {"model": "pool"}])
def test_only_the_networks_of_table_1_have_published_values(
    attrs: dict[str, str], tmp_path: Path
) -> None:
    rows = table_rows([make_result({"two": 3}, **attrs)], tmp_path, published="1")
    assert [row["published_nds"] for row in rows] == [""]


# --- Figure 2 ---


def test_reports_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="t: expected results of attack 'isa_ig'; found isa"):
        table_rows([make_result({"two": 3})], tmp_path, attacks=["isa_ig"])
    message = "t: mnist/small/normal/released/isa does not have test image 4"
    with pytest.raises(IrpipeError, match=message):
        isa_curve.report([make_result({"two": 3})], tmp_path / "t", title="T", image=4)
    result = make_result({"two": 3})
    result.arrays["is_valid"][:] = False
    network = "t: mnist/small/normal/released/isa"
    with pytest.raises(IrpipeError, match=f"{network} has no image with valid"):
        isa_curve.report([result], tmp_path / "t", title="T")
    with pytest.raises(IrpipeError, match=f"{network} has no valid attack on test image 3"):
        isa_curve.report([result], tmp_path / "t", title="T", image=3)


@pytest.mark.parametrize("image", [None, 3])
def test_figure_is_drawn_with_equal_bytes(image: int | None, tmp_path: Path) -> None:
    results = [make_result({"one": 2.5, "two": 3.0}, model=model) for model in ("small", "pool")]
    first = isa_curve.report(results, tmp_path / "a" / "f", title="T", image=image)
    second = isa_curve.report(results[::-1], tmp_path / "b" / "f", title="T", image=image)
    assert [path.name for path in first] == ["f.png", "f.pdf", "f.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_curves_of_the_figure_by_hand() -> None:
    result = make_result({"one": 2.0})
    result.arrays["is_valid"][0, 0] = False  # images 2, 3 and 4 have all their points
    x, y, low, high = isa_curve._mean_curve(result, 0, "t")
    assert x.tolist() == [1, 1.5]
    assert y.tolist() == pytest.approx([20 * 4 / 3, 15 * 4 / 3])
    assert (low[0], high[0]) == (20, 40)
    x, y = isa_curve._image_curve(result, 0, 1, "t")
    assert (x.tolist(), y.tolist()) == ([0.1, 0.15], [40, 30])
    assert isa_curve._image_curve(result, 0, 5, "t")[1].tolist() == [15]


# --- errata ---


def errata_by_item(result: Result, tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    rows = read_rows(errata_table.report([result], tmp_path / "e", title="T", attacks=["isa"])[0])
    items = {row["item"] for row in rows}
    return {item: [row for row in rows if row["item"] == item] for item in items}


def test_errata_name_cells_that_the_released_code_cannot_make(tmp_path: Path) -> None:
    heights = {"two": 6.5, "all": 4.0}
    errata = errata_by_item(make_result(heights, options=ig_options(heights)), tmp_path)
    (row,) = errata["Cells without code"]
    assert (row["protocol"], row["what"]) == ("C.5 I10", "IG, \N{SCRIPT SMALL L}1 all-class")
    assert (row["published"], row["measured"]) == (
        "NDS 4.367, NSL 0.2314",
        "NDS 4.375, NSL 0.2500",
    )


def test_errata_of_table_1(tmp_path: Path) -> None:
    errata = errata_by_item(make_result({"one": 2.5, "two": 3.0}), tmp_path)
    assert set(errata) == {"Divisor of NSL", "Truncated search"}
    (row,) = errata["Divisor of NSL"]
    assert (row["what"], row["published"]) == ("CAM, \N{SCRIPT SMALL L}1 2-class", "NSL 0.0223")
    assert row["measured"] == "0.2500 per point, 0.5000 per image"
    truncated = errata["Truncated search"][0]
    assert truncated["measured"] == "2 of 8 searches (25.0%) end at the cap"


def test_errata_find_squared_norms(tmp_path: Path) -> None:
    result = make_result({"one": 0.5}, options=with_options(norms=["l2"]))
    distances = 0.1 * np.broadcast_to(np.array([1, 3])[None, :, None], (4, 2, 1))
    result.arrays["linf_distance"] = distances
    (row,) = errata_by_item(result, tmp_path)["Norm or its square"]
    assert row["published"] == "NDS 0.3061, NSL 0.1505"
    assert row["measured"] == "NDS 0.5469, NSL 0.0625"
    squared = "squared: NDS 0.3418, NSL 0.1094, which is nearer to the published values"
    assert row["note"] == squared


def test_errata_find_cells_of_few_images(tmp_path: Path) -> None:
    result = make_result({"one": 0.306}, options=with_options(norms=["l2"]))
    result.arrays["is_valid"][:3] = False
    errata = errata_by_item(result, tmp_path)
    assert set(errata) == {"Few images", "Truncated search"}
    assert errata["Few images"][0]["note"] == "1 of 4 images count, with 2 points"


def test_a_cell_without_a_score_says_nothing_on_the_divisor(tmp_path: Path) -> None:
    result = make_result({"two": 3.0})
    result.arrays["is_valid"][:] = False
    errata = errata_by_item(result, tmp_path)
    assert set(errata) == {"Few images", "Truncated search"}
    assert errata["Few images"][0]["measured"] == "no score"


def test_only_the_search_concerns_other_networks(tmp_path: Path) -> None:
    errata = errata_by_item(make_result({"two": 3.0}, method="int"), tmp_path)
    assert set(errata) == {"Truncated search"}
    assert errata["Truncated search"][0]["what"] == "binary search for lambda, CAM, Int"
