"""`irpipe stress --against`: another network, or a folder of results, next to the first one."""

import json
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from command_line import run, write_fitted_network
from made_results import make_result

from irpipe.reports.stress_page.against import (
    ALL_ATTACKS,
    OtherNetwork,
    difference_sentence,
    paired_tests,
)
from irpipe.reports.stress_page.numbers import StressNumbers, stress_numbers
from irpipe.results.result import Result, read_result, write_result

OPTIONS = "images: 20, eps: [0, 0.02, 0.2]"
ATTACKS = [
    f"pgd={{kind: pgd, steps: [1, 3], {OPTIONS}}}",
    f"aai={{kind: aai, steps: 5, hinge_weight: 1, {OPTIONS}}}",
]


def numbers_of(*results: Result) -> StressNumbers:
    numbers = stress_numbers(results)
    assert numbers
    return numbers


def left(kind: str, images: range) -> Result:
    """An attack of 100 steps that leaves these of 200 images correct at eps 0.3."""
    return make_result(kind, {(0.3, 100): images}, [100])


def test_the_page_shows_both(
    tmp_path: Path, chromium: Chromium, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network, and a folder of results of a third one."""
    write_fitted_network(tmp_path / "net.safetensors", method="int")
    write_fitted_network(tmp_path / "other.safetensors", seed=2, method="adv")
    write_fitted_network(tmp_path / "third.safetensors", seed=3, method="int")
    common = ("--device", "cpu", "--attacks", *ATTACKS)
    third = ("--checkpoint", tmp_path / "third.safetensors", "--output", tmp_path / "third")
    assert run("stress", *third, *common) == 0
    own = ["--checkpoint", tmp_path / "net.safetensors", "--output", tmp_path / "o"]
    own += ["--against", tmp_path / "other.safetensors", "--against", tmp_path / "third"]
    assert run("stress", *own, *common) == 0
    results = {
        "int": [read_result(tmp_path / "o" / f"{name}.h5") for name in ("pgd", "aai")],
        "adv": [read_result(tmp_path / f"o/against/adv/{name}.h5") for name in ("pgd", "aai")],
        "int_2": [read_result(tmp_path / "third" / f"{name}.h5") for name in ("pgd", "aai")],
    }
    with chromium.page(390, 844) as page:
        page.open(tmp_path / "o" / "report.html")
        rows = page.run(
            "[...document.querySelectorAll('#table-paired tbody tr')].map("
            "row => [...row.cells].map(cell => cell.textContent))"
        )
        legend = "[...document.querySelectorAll('#plot-accuracy svg text')].map(t => t.textContent)"
        assert {"pgd", "pgd, adv", "pgd, int_2"} <= set(page.run(legend))
        assert page.run("document.documentElement.scrollWidth") == 390
        assert page.errors == []
    names = [ALL_ATTACKS, "pgd", "aai"]
    assert [row[:2] for row in rows] == [
        [name, other] for other in ("adv", "int_2") for name in names
    ]
    for _, other, *cells in rows[1::3]:
        correct, other_correct = (
            results[name][0].arrays["correct"][:, 2, -1] for name in ("int", other)
        )
        assert cells[0] == f"{correct.mean() - other_correct.mean():+.1%}"
        assert (
            cells[2] == f"{(correct & ~other_correct).sum()} : {(other_correct & ~correct).sum()}"
        )
    summary = json.loads((tmp_path / "o" / "summary.json").read_text(encoding="utf-8"))
    assert [test["against"] for test in summary["paired_tests"]] == ["adv"] * 3 + ["int_2"] * 3
    capsys.readouterr()
    assert run("stress", *own, *common) == 0
    assert capsys.readouterr().out.count("finished before, not repeated") == 5


def test_the_tests_are_mcnemars_corrected_by_holm() -> None:
    """PGD leaves 0 to 99 against 6 to 99, margin PGD 0 to 149 against 4 to 149.

    McNemar's p of 6 : 0 is 2/64, that of 4 : 0 is 2/16. Under both attacks together, 0 to 99 are
    left against 6 to 99: again 2/64. Holm multiplies the smallest by 3 and, as the results must
    not fall, the second by 2, but at least to the first.
    """
    numbers = numbers_of(left("pgd", range(100)), left("margin_pgd", range(150)))
    other = OtherNetwork(
        "b", "b.pt2", [left("pgd", range(6, 100)), left("margin_pgd", range(4, 150))]
    )
    tests = {test.attack: test for test in paired_tests(numbers, [other])}
    assert list(tests) == [ALL_ATTACKS, "margin_pgd", "pgd"] or list(tests) == [
        ALL_ATTACKS,
        "pgd",
        "margin_pgd",
    ]
    assert tests["pgd"].difference[:1] == (0.03,)
    assert tests["pgd"].p_holm == pytest.approx(3 * 2 / 64)
    assert tests[ALL_ATTACKS].p_holm == pytest.approx(3 * 2 / 64)
    assert tests["margin_pgd"].p_holm == pytest.approx(2 / 16)


@pytest.mark.parametrize(
    ("n_better", "words"),
    [
        (20, "mine is 10.0 points more accurate than b (95%"),
        (4, "than b, which can be chance (95%"),
        (0, "mine is as accurate as b (95% interval [-1.0%, +1.0%], n = 200, McNemar's p = 1 "),
    ],
)
def test_the_sentence_says_whether_it_can_be_chance(n_better: int, words: str) -> None:
    numbers = numbers_of(left("pgd", range(100)))
    other = OtherNetwork("b", "b.pt2", [left("pgd", range(n_better, 100))])
    assert words in difference_sentence("mine", paired_tests(numbers, [other]), "b")


@pytest.mark.parametrize("what", ["indices", "options"])
def test_results_on_other_images_or_with_other_options_are_not_compared(what: str) -> None:
    numbers = numbers_of(left("pgd", range(100)))
    second = left("pgd", range(100))
    if what == "indices":
        second.arrays["indices"] = np.arange(200)[::-1]
    else:
        second.attrs["options"] = second.attrs["options"] | {"random_start": True}
    tests = paired_tests(numbers, [OtherNetwork("b", "b.pt2", [second])])
    assert tests == []
    assert difference_sentence("mine", tests, "b").startswith("No attack met both mine and b")


def test_bad_others_are_refused_before_any_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fitted_network(tmp_path / "net.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "o").mkdir()
    write_result(tmp_path / "mnist" / "pgd.h5", left("pgd", range(100)))
    old = left("pgd", range(100))
    del old.arrays["loss"]
    write_result(tmp_path / "old" / "pgd.h5", old)
    for other, message in (
        (tmp_path / "old", "old/pgd.h5: not the result of an attack by this version of irpipe"),
        (tmp_path / "empty", "no results (.h5) in this folder"),
        (tmp_path / "mnist", "pgd.h5 is of another test set"),
        (tmp_path / "missing.safetensors", "no such file"),
        (tmp_path / "o", "this is the folder of --output, and its results would be replaced"),
        ("nothing", "--against nothing: no such folder, and none of NET.safetensors, NET.pt2"),
    ):
        own = ("--checkpoint", tmp_path / "net.safetensors", "--output", tmp_path / "o")
        assert run("stress", *own, "--against", other, "--attacks", *ATTACKS) == 2
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob("o/*.h5"))
