"""Verdicts on the paper's claims, on results of known accuracy and tau."""

from pathlib import Path

import pytest
from made_results import (
    ABOUT_AS_ROBUST,
    FALLING,
    make_map_result,
    make_pgd_pair,
    make_proofs,
    make_result,
    read_rows,
)

from irpipe.analysis.claims import CLAIMS, assess, decide
from irpipe.errors import IrpipeError
from irpipe.reports import claims_table

NO_ARTEFACT = next(claim for claim in CLAIMS if claim.second is None)
EXPLAINS_BETTER = next(claim for claim in CLAIMS if claim.interpreter == "cam")


@pytest.mark.parametrize(
    ("value", "low", "expected"),
    [
        (-0.05, -0.09, "holds"),
        (-0.05, -0.11, "holds weaker"),
        (-0.14, -0.2, "holds weaker"),
        (-0.15, -0.2, "not supported"),
    ],
)
def test_rule_of_about_as_robust(value: float, low: float, expected: str) -> None:
    assert decide(ABOUT_AS_ROBUST, value, low, 200) == expected


@pytest.mark.parametrize(
    ("value", "low", "expected"),
    [
        (0.1, 0.01, "holds"),
        (0.1, -0.01, "holds weaker"),
        (-0.01, -0.1, "not supported"),
        (0.0, 0.0, "not supported"),
    ],
)
def test_rule_of_more_robust(value: float, low: float, expected: str) -> None:
    assert decide(EXPLAINS_BETTER, value, low, 200) == expected


def test_a_claim_does_not_hold_by_a_few_images() -> None:
    """Of 29 images that both networks classify correctly, a tenth of all others may differ.

    The interval of their difference is [0, 0]. By the rule of three, 30 images exclude 3/30.
    """
    for n, expected in ((1, "holds weaker"), (29, "holds weaker"), (30, "holds")):
        results = [[make_result("pgd", {}, [200], n=n, method=name)] for name in ("int", "adv")]
        outcome = assess(ABOUT_AS_ROBUST, *results, "t")
        assert outcome is not None
        assert (outcome.low, outcome.high, outcome.verdict) == (0, 0, expected)


def test_the_papers_mean_over_no_image_is_a_dash() -> None:
    """No image keeps its prediction under the paper's attack on Int."""
    results = [
        [make_map_result(method, 0.8, range(n_unchanged), range(200))]
        for method, n_unchanged in (("int", 0), ("adv", 200))
    ]
    outcome = assess(EXPLAINS_BETTER, *results, "t")
    assert outcome is not None
    assert outcome.under_paper_attack == "– against 0.800"


def test_all_attacks_count_by_the_worst_for_each_image(tmp_path: Path) -> None:
    int_results = make_pgd_pair("int", range(158), range(10, 200))  # 148 correct under both
    adv_results = make_pgd_pair("adv", range(178), range(176))
    outcome = assess(ABOUT_AS_ROBUST, int_results, adv_results, "t")
    assert outcome is not None
    assert outcome.published == "0.790 against 0.890 (Table 3)"
    assert outcome.under_paper_attack == "0.790 against 0.890"
    assert outcome.under_all_attacks.startswith("0.740 against 0.880, difference -0.140 [")
    assert outcome.value == pytest.approx(-0.14)
    assert outcome.verdict == "holds weaker"
    claims_table.report(
        [*int_results, *adv_results], tmp_path / "v", title="V", attacks=["pgd", "margin_pgd"]
    )
    rows = {row["claim"]: row for row in read_rows(tmp_path / "v.csv")}
    row = rows[ABOUT_AS_ROBUST.text]
    assert (row["verdict"], row["difference"], row["n"]) == ("holds weaker", "-0.14", "200")
    assert row["results"].split()[:2] == [
        "mnist/small/int/released/pgd",
        "mnist/small/int/released/margin_pgd",
    ]
    assert set(rows) == {ABOUT_AS_ROBUST.text, NO_ARTEFACT.text}
    assert "about as robust" in (tmp_path / "v.md").read_text(encoding="utf-8")


def test_attacks_that_only_one_network_met_do_not_count() -> None:
    int_results = make_pgd_pair("int", range(158), range(10))
    adv_pgd, _ = make_pgd_pair("adv", range(158), range(200))
    outcome = assess(ABOUT_AS_ROBUST, int_results, [adv_pgd], "t")
    assert outcome is not None
    assert (outcome.value, outcome.verdict) == (0, "holds")


def test_an_artefact_is_judged_by_the_masking_flags() -> None:
    margin_pgd = make_result("margin_pgd", FALLING, [1, 100])
    long_pgd = make_result("pgd", {}, [1, 200])
    short_pgd = make_result("pgd", {}, [1, 10])
    square = make_result(
        "autoattack",
        {(0.3, 5): range(34)},
        [5],
        attack="square",
        options={"attacks_to_run": ["square"]},
    )
    groups = ([long_pgd, margin_pgd], [short_pgd, margin_pgd], [long_pgd, margin_pgd, square])
    outcomes = [assess(NO_ARTEFACT, group, group, "t") for group in groups]
    verdicts = [outcome and outcome.verdict for outcome in outcomes]
    assert verdicts == ["holds", "holds weaker", "not supported"]
    assert outcomes[1] is not None
    assert outcomes[1].under_paper_attack == "1.000 at 1, 1.000 at 10 steps"


def test_that_the_steps_are_long_enough_rules_no_artefact_out() -> None:
    """Of the eight flags, PGD alone can raise that of an attack; two proofs of 200 meet nothing."""
    pgd = make_result("pgd", {(0.3, 200): range(150)}, [1, 200])
    assert assess(NO_ARTEFACT, [pgd], [pgd], "t") is None
    outcomes = [
        assess(NO_ARTEFACT, [pgd, make_proofs({0.3: (n, 150)})], [pgd], "t") for n in (2, 150)
    ]
    assert [outcome and outcome.verdict for outcome in outcomes] == [None, "holds"]


def test_maps_of_misclassified_images_count_as_zero() -> None:
    """Under all attacks, 100 images keep 0.5 with Int and 150 keep 0.4 with Adv."""
    int_results = [
        make_map_result("int", 0.9, range(180), range(190)),
        make_map_result("int", 0.5, range(100), range(200), hinge_weight=1),
    ]
    adv_results = [
        make_map_result("adv", 0.8, range(200), range(200)),
        make_map_result("adv", 0.4, range(200), range(150), hinge_weight=1),
    ]
    outcome = assess(EXPLAINS_BETTER, int_results, adv_results, "t")
    assert outcome is not None
    assert outcome.published == "0.913 against 0.857 (Table 2)"
    assert outcome.under_paper_attack == "0.900 against 0.800"
    assert outcome.under_all_attacks.startswith("0.250 against 0.300, difference -0.050")
    assert outcome.verdict == "not supported"


def test_no_claim_without_the_methods(tmp_path: Path) -> None:
    results = make_pgd_pair("adv", range(9), range(9))
    with pytest.raises(IrpipeError, match="no claim can be assessed; expected results of Int"):
        claims_table.report(results, tmp_path / "v", title="V", attacks=["pgd", "margin_pgd"])
