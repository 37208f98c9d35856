"""Brackets and the eighth sign of masking, on results of known accuracy and proofs."""

from pathlib import Path

import numpy as np
import pytest
from made_results import EPS, FALLING, make_proofs, make_result, read_rows

from irpipe.analysis.bracket import bracket, proofs_meet
from irpipe.analysis.gradient_masking import masking_flags, summarise
from irpipe.errors import IrpipeError
from irpipe.reports import masking_table
from irpipe.results.result import Result

# The attack leaves 160, 120 of 200 images at eps 0.2 and 0.3.
ATTACK = {(0.2, 100): range(160), (0.3, 100): range(120)}


def attack(kind: str = "margin_pgd", **attrs: object) -> Result:
    return make_result(kind, ATTACK, [1, 100], **attrs)


def test_an_image_is_undecided_if_neither_proof_nor_attack_has_it() -> None:
    """The search leaves 130, of which the attack breaks 10 and 100 are certified."""
    found = bracket(attack(), make_proofs({0.2: (150, 160), 0.3: (100, 130)}), 0.3, 100, "t")
    assert found is not None
    assert [share.value for share in found] == [0.5, 0.1, 0.6]
    assert [share.n for share in found] == [200] * 3
    # The search breaks 10 that the attack leaves.
    found = bracket(attack(), make_proofs({0.2: (150, 160), 0.3: (100, 110)}), 0.3, 100, "t")
    assert found is not None
    assert [share.value for share in found] == [0.5, 0.05, 0.55]


def test_clean_images_are_certified_if_they_are_correct() -> None:
    clean = {(0.0, 100): range(190)}
    proofs = make_proofs({eps: (0, 190) for eps in EPS})
    found = bracket(make_result("pgd", clean, [100]), proofs, 0.0, 100, "t")
    assert found is not None
    assert [share.value for share in found] == [0.95, 0, 0.95]


def test_where_nothing_was_proven_there_is_no_bracket() -> None:
    proofs = make_proofs({})
    proofs.arrays["eps"] = np.array([0, 0.01, 0.02, 0.03, 0.04])
    assert bracket(attack(), proofs, 0.3, 100, "t") is None


def test_other_images_weights_and_contradictions_are_refused() -> None:
    proofs = make_proofs({0.3: (100, 130)})
    proofs.arrays["indices"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match=r"^t: \S+/certify and \S+/margin_pgd are of other i"):
        bracket(attack(), proofs, 0.3, 100, "t")
    proofs = make_proofs({0.3: (100, 130)}, network_sha256="f00d")
    with pytest.raises(IrpipeError, match=r"^t: \S+ and \S+ are of other weights; evaluate both"):
        bracket(attack(), proofs, 0.3, 100, "t")
    message = r"^mnist/small/int/released, image 120: \S+/certify certifies it at eps 0.3, but"
    with pytest.raises(IrpipeError, match=message):
        bracket(attack(), make_proofs({0.2: (150, 160), 0.3: (121, 130)}), 0.3, 100, "t")


@pytest.mark.parametrize(
    ("n", "n_undecided", "expected"),
    [(200, 0, True), (200, 5, True), (200, 6, False), (40, 2, True), (40, 3, False)],
)
def test_proofs_meet_an_attack(n: int, n_undecided: int, expected: bool) -> None:
    """Six of 200 images have p = 2/64, five 2/32. Two of 40 are 5%."""
    correct = np.arange(n) < n // 2
    assert proofs_meet(np.arange(n) < n // 2 - n_undecided, correct) is expected


def test_masking_is_ruled_out_where_proofs_meet_attacks(tmp_path: Path) -> None:
    results = [attack(), make_proofs({0.2: (158, 170), 0.3: (115, 125)})]
    flags = masking_flags(results, "t")
    assert summarise(flags).startswith(
        "5 of 8 signs of masking looked for; masking ruled out: proofs meet attacks; not looked for"
    )
    masking_table.report(results, tmp_path / "m", title="M", attacks=["margin_pgd"])
    (row,) = [row for row in read_rows(tmp_path / "m.csv") if row["flag"] == "proofs meet attacks"]
    assert (row["raised"], row["about"]) == ("yes", "proofs")
    assert (row["value"], row["against"]) == ("0.575", "0.6")
    assert row["numbers"] == "certified 0.575, attacked 0.600"


def test_a_gap_between_proofs_and_attacks_is_no_sign() -> None:
    flags = masking_flags([attack(), make_proofs({0.2: (158, 170), 0.3: (114, 125)})], "t")
    assert summarise(flags).startswith("5 of 8 signs of masking looked for; none found; ")
    (flag,) = [flag for flag in flags if flag.name == "proofs meet attacks"]
    assert not flag.is_raised
    assert flag.numbers == "certified 0.570, attacked 0.600; they meet at ε = 0.05, 0.1, 0.2"


def test_proofs_outdo_other_signs() -> None:
    vanished = attack()
    vanished.arrays["grad_linf"] = np.zeros((200, len(EPS), 2))
    flags = masking_flags([vanished, make_proofs({0.2: (160, 160), 0.3: (120, 120)})], "t")
    verdict = "masking ruled out: proofs meet attacks; raised all the same: vanishing gradients; "
    assert verdict in summarise(flags)


def test_the_white_box_has_autoattack_but_not_square() -> None:
    """AutoAttack leaves 110, by its first attack; with 105 certified, that meets."""
    options = {"attacks_to_run": ["apgd-ce", "square"]}
    correct = {(eps, 5): range(200) for eps in EPS} | {(0.3, 5): range(110)}
    for broken_by, meets in ((1, True), (2, False)):
        autoattack = make_result("autoattack", correct, [5], options=options)
        is_broken = ~autoattack.arrays["correct"]
        autoattack.arrays["broken_by"] = np.where(is_broken, broken_by, 0)
        proofs = make_proofs({0.2: (160, 160), 0.3: (105, 120)})
        flags = masking_flags([attack(), autoattack, proofs], "t")
        raised = {flag.name for flag in flags if flag.is_raised}
        assert ("proofs meet attacks" in raised) is meets


def test_without_margin_pgd_the_papers_attack_is_the_white_box() -> None:
    pgd = make_result("pgd", FALLING, [1, 100])
    flags = masking_flags([pgd, make_proofs({eps: (39, 40) for eps in EPS})], "t")
    (flag,) = [flag for flag in flags if flag.name == "proofs meet attacks"]
    assert flag.numbers == "certified 0.195, attacked 0.200"
