"""The table of Kendall's tau under `aai`: means, intervals, published values, errata."""

import csv
from pathlib import Path
from typing import Any

import pytest
from map_networks import make_aai_result

from irpipe.reports import errata_table, tau_table
from irpipe.results.rank_correlation import rank_correlation


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rank_correlation_by_hand() -> None:
    result = make_aai_result([0.5] * 4, [4] * 4, n=4)
    result.arrays["kendall_tau"][:, 0, 0] = [0.9, 0.5, 0.1, 0.0]
    result.arrays["prediction_unchanged"][2, 0, 0] = False
    result.arrays["tau_defined"][3, 0, 0] = False
    tau = rank_correlation(result, 0.05, 200)
    assert tau is not None
    assert (tau.value, tau.n, tau.n_undefined) == (pytest.approx(0.7), 2, 1)
    assert tau.value_all == pytest.approx(1.4 / 4)
    # Of two values, a quarter of the bootstrap's samples takes one of them twice.
    assert (tau.low, tau.high) == pytest.approx((0.5, 0.9))
    assert rank_correlation(result, 0.07, 200) is None


def test_measured_values_next_to_the_published_ones(tmp_path: Path) -> None:
    """Table 2 prints 0.982, 0.968, 0.941 and 0.913 for Int.

    The measured values differ by 0.003, 0.006, 0.011 and 0; the last one is over 29 images.
    """
    result = make_aai_result([0.985, 0.974, 0.952, 0.913], [100, 90, 30, 29])
    paths = tau_table.report([result], tmp_path / "t", title="T", published="2")
    rows = read_rows(paths[0])
    assert [(row["eps"], row["mark"], row["n"]) for row in rows] == [
        ("0.05", "", "100"),
        ("0.1", "*", "90"),
        ("0.2", "**", "30"),
        ("0.3", "", "29"),
    ]
    assert {row["metric"] for row in rows} == {"kendall_tau"}
    assert [float(row["all"]) for row in rows] == pytest.approx([0.985, 0.8766, 0.2856, 0.26477])
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "0.974\\* [0.974, 0.974] n = 90, all 0.877 (0.968)" in text
    assert "0.952\\*\\* [0.952, 0.952] n = 30, all 0.286 (0.941)" in text
    assert "0.913 [0.913, 0.913] n = 29†, all 0.265 (0.913)" in text


def test_seeds_get_their_mean_and_a_mean_over_no_image_a_dash(tmp_path: Path) -> None:
    results = [
        make_aai_result([0.9] * 4, [50, 50, 50, 0], run="seed0"),
        make_aai_result([0.8] * 4, [40] * 4, run="seed1"),
    ]
    paths = tau_table.report(results, tmp_path / "t", title="T")
    mean = read_rows(paths[0])[8]
    shown = (mean["run"], mean["value"], mean["spread"], mean["n"])
    assert shown == ("mean of 2", "0.85", "0.070711", "40")
    assert float(mean["all"]) == pytest.approx((0.45 + 0.32) / 2)
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "| – n = 0†, all 0.000 |\n" in text
    assert "| Int mean of 2 seeds | 0.850 ± 0.071 | 0.850 ± 0.071 | 0.850 ± 0.071 | – |\n" in text


@pytest.mark.parametrize(
    ("interpreter", "table", "published"),
    [
        ("cam", "A4", ["0.964", "0.928", "0.852", "0.771"]),
        ("cam", "A5", [""] * 4),
        ("gradcampp", "A4", [""] * 4),
        ("gradcampp", "A5", ["0.949", "0.893", "0.759", "0.588"]),
    ],
)
def test_published_values_of_another_interpreter_are_not_shown(
    interpreter: str, table: Any, published: list[str], tmp_path: Path
) -> None:
    result = make_aai_result([0.9] * 4, [100] * 4, model="pool")
    result.attrs["options"]["interpreter"] = interpreter
    paths = tau_table.report([result], tmp_path / "t", title="T", published=table)
    assert [row["published"] for row in read_rows(paths[0])] == published


def test_errata_name_cells_over_few_images(tmp_path: Path) -> None:
    normal_tau = [0.9, 0.8, 0.3482, -0.09]
    results = [
        make_aai_result([0.9] * 4, [9] * 4, n=200, run="seed0"),
        make_aai_result(normal_tau, [176, 30, 7, 0], n=200, method="normal"),
    ]
    paths = errata_table.report(results, tmp_path / "e", title="T", attacks=["aai"])
    rows = read_rows(paths[0])
    assert [(row["what"], row["published"], row["measured"]) for row in rows] == [
        ("Normal, ε = 0.2, Table 2", "0.366", "0.348"),
        ("Normal, ε = 0.3, Table 2", "-0.085", "no mean"),
    ]
    assert rows[0]["note"].startswith("over 7 of 200 images")
    assert rows[0]["note"].endswith("0.012")
