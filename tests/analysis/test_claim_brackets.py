"""Claims between proofs and attacks, on results of known accuracy and proofs."""

from pathlib import Path

import pytest
from made_results import (
    ABOUT_AS_ROBUST,
    EPS,
    FALLING,
    make_pgd_pair,
    make_proofs,
    make_result,
    read_rows,
)

from irpipe.analysis.claim_brackets import bracket_claim
from irpipe.analysis.claims import CLAIMS, assess
from irpipe.errors import IrpipeError
from irpipe.reports import claims_figure, claims_table
from irpipe.results.result import Result

NO_ARTEFACT = next(claim for claim in CLAIMS if claim.second is None)
ON_MAPS = next(claim for claim in CLAIMS if claim.interpreter)
ATTACKS = ["pgd", "margin_pgd"]


def int_results(n_certified: int, n_after_search: int) -> list[Result]:
    """All attacks together leave 150 of 200 images, before the search for proofs."""
    proofs = make_proofs({0.3: (n_certified, n_after_search)}, method="int")
    return [*make_pgd_pair("int", range(158), range(150)), proofs]


def adv_results(n_certified: int, n_after_search: int) -> list[Result]:
    """All attacks together leave 176 of 200 images, before the search for proofs."""
    proofs = make_proofs({0.3: (n_certified, n_after_search)}, method="adv")
    return [*make_pgd_pair("adv", range(178), range(176)), proofs]


@pytest.mark.parametrize(
    ("first", "second", "low", "high", "verdict"),
    [
        # Int lies in [.6, .7], Adv in [.85, .875]: even -.15 is too far below.
        ((120, 140), (170, 175), -0.275, -0.15, "proven: not supported"),
        # Int lies in [.75, .75], Adv in [.5, .88].
        ((150, 150), (100, 180), -0.13, 0.25, "open: holds weaker to holds"),
        # Both are exact, and the interval of -.03 ends above -.1.
        ((150, 150), (156, 156), -0.03, -0.03, "proven: holds"),
    ],
)
def test_a_claim_lies_between_proofs_and_attacks(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float, verdict: str
) -> None:
    found = bracket_claim(ABOUT_AS_ROBUST, int_results(*first), adv_results(*second), "t")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.verdict == verdict


def test_the_sentence_is_made_from_the_numbers() -> None:
    found = bracket_claim(ABOUT_AS_ROBUST, int_results(120, 140), adv_results(170, 175), "t")
    assert found is not None
    assert found.text == (
        "Int lies in [0.600, 0.700], Adv in [0.850, 0.875], the difference in [-0.275, -0.150]"
    )


def test_without_proofs_nothing_is_certified() -> None:
    """The baseline has no proofs: it lies in [0, .1], and the difference in [.5, .7]."""
    claim = next(claim for claim in CLAIMS if claim.second == "normal")
    normal = [make_result("pgd", {(0.3, 200): range(20)}, [200], method="normal")]
    found = bracket_claim(claim, int_results(120, 140), normal, "t")
    assert found is not None
    assert found.text.startswith("Int lies in [0.600, 0.700], Normal in [0.000, 0.100], ")
    assert (found.low, found.high) == pytest.approx((0.5, 0.7))
    assert found.verdict == "proven: holds"
    assert bracket_claim(claim, int_results(120, 140)[:2], normal, "t") is None


def test_claims_on_maps_and_masking_have_no_bracket() -> None:
    for claim in (ON_MAPS, NO_ARTEFACT):
        found = bracket_claim(claim, int_results(120, 140), adv_results(170, 175), "t")
        assert found is None


def test_proofs_that_meet_attacks_outdo_a_weak_attack() -> None:
    """PGD's first step count is too small, so without proofs the claim holds weaker."""
    results = [make_result("pgd", {}, [1, 10]), make_result("margin_pgd", FALLING, [1, 100])]
    for n_certified, verdict in ((35, "holds"), (34, "holds weaker")):
        proofs = make_proofs({eps: (n_certified, 40) for eps in EPS})
        outcome = assess(NO_ARTEFACT, [*results, proofs], [], "t")
        assert outcome is not None
        assert outcome.verdict == verdict


def test_table_and_figure_say_it(tmp_path: Path) -> None:
    results = [*int_results(120, 140), *adv_results(170, 175)]
    claims_table.report(results, tmp_path / "t", title="T", attacks=ATTACKS)
    row = next(row for row in read_rows(tmp_path / "t.csv") if row["claim"] == ABOUT_AS_ROBUST.text)
    assert (row["bracket_low"], row["bracket_high"]) == ("-0.275", "-0.15")
    assert row["bracket_verdict"] == "proven: not supported"
    _, _, svg = claims_figure.report(results, tmp_path / "c", title="T", attacks=ATTACKS)
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert "**Between proofs and attacks**" in text
    assert f"{row['bracket']} | proven: not supported | 1-6 |" in text
    assert "no attack can change it" in text
    assert "<!-- between proofs and attacks -->" in svg.read_text(encoding="utf-8")


def test_without_proofs_table_and_figure_are_silent(tmp_path: Path) -> None:
    results = [*int_results(120, 140)[:2], *adv_results(170, 175)[:2]]
    _, _, svg = claims_figure.report(results, tmp_path / "c", title="T", attacks=ATTACKS)
    claims_table.report(results, tmp_path / "t", title="T", attacks=ATTACKS)
    for path in (tmp_path / "t.md", svg):
        assert "between proofs and attacks" not in path.read_text(encoding="utf-8").lower()


def test_proofs_of_other_images_are_refused(tmp_path: Path) -> None:
    *attacked, proofs = int_results(120, 140)
    proofs.arrays["indices"] = proofs.arrays["indices"] + 1
    with pytest.raises(IrpipeError, match=r"^c: \S+ and \S+/certify are of other images; "):
        bracket_claim(ABOUT_AS_ROBUST, [*attacked, proofs], adv_results(170, 175), "c")
