"""The table and the figure of certified maps, from results made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import make_result, read_rows

from irpipe.errors import IrpipeError
from irpipe.reports import certified_maps_table, proposition1_certificates
from irpipe.results.result import Result

CERTIFIED = [[0.2, 0.3, 0.4], [0.6, 0.2, 0.4]]  # of two images, for three classes
HALF_MARGIN = [[0.0, 0.5, 0.35], [0.7, 0.0, 0.3]]


def make_maps(method: str = "int", eps: tuple[float, ...] = (0.0, 0.1, 0.2)) -> Result:
    """Two images with the true classes 0 and 1. The attack finds half of each bound.

    All is 0 at eps = 0 and twice as large at 0.2 as at 0.1, but for the clean margins.
    """
    result = make_result("certify_maps", {}, [1], n=2, method=method)
    scale = 10 * np.array(eps)[:, None]
    certified = np.array(CERTIFIED)[:, None] * scale
    half_margin = np.array(HALF_MARGIN)[:, None] * (scale > 0)
    arrays: dict[str, Any] = {
        "eps": np.array(eps),
        "indices": np.arange(2),
        "class": np.arange(3),
        "label": np.array([0, 1]),
        "certified_discrepancy": certified,
        "attacked_discrepancy": certified / 2,
        "half_margin": half_margin,
        "margin_lower_bound": np.where(half_margin == 0, 0, 2 * half_margin - scale / 2),
    }
    return Result(result.attrs, arrays)


def make_top_k(method: str = "int", eps: tuple[float, ...] = (0.2, 0.1)) -> Result:
    """Of three entries, 3 and 2 provably stay in the two images, and 3 of each after the attack."""
    result = make_result("certify_top_k", {}, [1], n=2, method=method)
    stays = np.ones((2, len(eps), 3), bool)
    stays[1, :, 2] = False
    arrays = {
        "eps": np.array(eps),
        "indices": np.arange(2),
        "rank": np.arange(3),
        "provably_stays": stays,
    }
    return Result(result.attrs, arrays | {"attacked_stays": np.ones_like(stays)})


def test_maps_and_top_k_are_of_the_same_images(tmp_path: Path) -> None:
    other = make_top_k()
    other.arrays["indices"] = np.array([0, 2])
    with pytest.raises(IrpipeError, match="are of other images"):
        certified_maps_table.report([make_maps(), other], tmp_path / "t", title="T")


def test_a_map_that_no_attack_changes_has_no_ratio(tmp_path: Path) -> None:
    maps = make_maps()
    maps.arrays["attacked_discrepancy"] *= 0
    certified_maps_table.report([maps, make_top_k()], tmp_path / "t", title="T")
    markdown = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "| Int | 0.1 | 0.200 (0.000) no ratio |" in markdown


def test_the_table_has_the_means_over_images(tmp_path: Path) -> None:
    certified_maps_table.report([make_maps(), make_top_k()], tmp_path / "t", title="T")
    first, second = read_rows(tmp_path / "t.csv")
    assert [row["eps"] for row in (first, second)] == ["0.1", "0.2"]
    numbers = {name: float(value) for name, value in first.items() if name in NUMBERS}
    assert numbers == pytest.approx(NUMBERS)
    # At 0.2, the bounds are 0.4 and twice the others, the margins 0.35, 0.5, 0.3 and 0.7.
    assert float(second["certified_one"]) == pytest.approx(0.4)
    assert float(second["by_proposition1"]) == 0
    assert float(second["proposition1_limit"]) == 0
    markdown = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "MNIST, Small, k = 3, n = 2" in markdown
    assert "| Int | 0.1 | 0.200 (0.100) ratio 2.00 | 0.400 (0.200) ratio 2.00 |" in markdown


# At 0.1: the best other class of image 0 is 2, of image 1 it is 2. Image 0 has a bound above its
# half margin, .4 > .35, and so has image 1, .4 > .3, but not what the attack found. The margins are
# bounded by 1, .7, 1.4, .6 minus .5.
NUMBERS = {
    "n": 2,
    "top_k": 3,
    "certified_one": 0.2,
    "attacked_one": 0.1,
    "ratio_one": 2,
    "certified_two": 0.4,
    "attacked_two": 0.2,
    "ratio_two": 2,
    "provably_stays": 2.5,
    "attacked_stays": 3,
    "by_proposition1": 0,
    "by_margin": 1,
    "proposition1_limit": 1,
}


def test_proposition_1_certifies_where_all_bounds_are_below_half_the_margin(tmp_path: Path) -> None:
    maps = make_maps()
    maps.arrays["half_margin"][0, :, 2] = 0.41
    certified_maps_table.report([maps, make_top_k()], tmp_path / "t", title="T")
    first, second = read_rows(tmp_path / "t.csv")
    assert (float(first["by_proposition1"]), float(second["by_proposition1"])) == (0.5, 0)
    assert (float(first["proposition1_limit"]), float(second["proposition1_limit"])) == (1, 0.5)


def test_the_table_needs_the_same_networks_and_eps_of_both_kinds(tmp_path: Path) -> None:
    results = [make_maps(), make_maps("adv"), make_top_k()]
    with pytest.raises(
        IrpipeError, match=r"found mnist/small/adv/.*, but no result of 'certify_to"
    ):
        certified_maps_table.report(results, tmp_path / "t", title="T")
    match = "certify_top_k lacks ε = 0.2, which mnist/small/int/released/certify_maps has; evaluate"
    with pytest.raises(IrpipeError, match=match):
        results = [make_maps(), make_top_k(eps=(0.1,))]
        certified_maps_table.report(results, tmp_path / "t", title="T")


def test_the_figure_has_one_panel_per_network(tmp_path: Path) -> None:
    results = [make_maps(method) for method in ("int", "adv", "trades", "normal", "int_adv")]
    paths = proposition1_certificates.report(results, tmp_path / "f", title="T")
    assert [path.suffix for path in paths] == [".png", ".pdf", ".svg"]
    svg = paths[2].read_text(encoding="utf-8")
    for label in ("Int", "Adv", "TRADES", "Normal", "Int-Adv"):
        assert f"<!-- MNIST, Small, {label} -->" in svg
    assert svg.count("<!-- 0.2 -->") >= 5
    for label in ("certified by the margin", "certified by Proposition 1"):
        assert f"<!-- {label} -->" in svg
