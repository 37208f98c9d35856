"""Paired tests, signs of masking and verdicts, on results of known accuracy."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.reports import compare, masking, verdict
from irpipe.reports.parts.claims import CLAIMS, find, judge
from irpipe.reports.parts.masking import SIGNS, flags
from irpipe.reports.parts.masking import verdict as said

RADII = [0.0, 0.05, 0.1, 0.2, 0.3]
PGD = {"step_size": 0.01, "relative": None, "random_start": False}
SIMILAR, *_ = CLAIMS
ARTEFACT = next(claim for claim in CLAIMS if claim.second is None)
TAU = next(claim for claim in CLAIMS if claim.maps == "cam")


def made(kind: str, right: dict[tuple[float, int], range], steps: list[int], n: int = 200, **attrs: Any) -> Result:
    """A result on MNIST Small where the images in a range are right at a radius and step count, else all are."""
    correct = np.ones((n, len(RADII), len(steps)), bool)
    for (eps, count), kept in right.items():
        correct[:, RADII.index(eps), steps.index(count)] = np.isin(np.arange(n), kept)
    arrays = {"eps": np.array(RADII), "steps": np.array(steps), "correct": correct, "index": np.arange(n)}
    arrays["radius"] = np.zeros(correct.shape)
    if kind == "strong":
        arrays |= {"last": correct.copy(), "gradient": np.ones(correct.shape, np.float32)}
    known = {"dataset": "mnist", "model": "small", "method": "int", "run": "released", "attack": kind, "kind": kind}
    known |= {"code": "c0de", "network_sha256": "feed", "data_sha256": "beef", "nominal_radius": 0.3}
    return Result(known | {"spec": PGD if kind == "pgd" else {}} | attrs, arrays)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- who beats whom ----------------------------------------------------------------------------------------


def test_comparison_counts_images_and_corrects_for_all_cells(tmp_path: Path) -> None:
    ours = made("pgd", {(0.3, 200): range(160), (0.2, 200): range(150)}, [1, 200])
    adv = made("pgd", {(0.3, 200): range(10, 178), (0.2, 200): range(150)}, [1, 200], method="adv")
    compare.report([ours, adv], tmp_path / "t", title="T", steps=200)
    found = {row["eps"]: row for row in rows(tmp_path / "t.csv")}
    assert list(found) == ["0", "0.05", "0.1", "0.2", "0.3"]
    last = found["0.3"]
    assert (last["first"], last["second"], last["n"]) == ("int", "adv", "200")
    assert (last["only_first"], last["only_second"], last["difference"]) == ("10", "18", "-0.04")
    p = binomtest(10, 28).pvalue
    assert float(last["p"]) == pytest.approx(p, rel=1e-5)
    assert float(last["p_holm"]) == pytest.approx(min(1, 5 * p), rel=1e-5)
    assert found["0.2"]["p"] == "1"
    text = (tmp_path / "t.md").read_text()
    assert "Int against Adv" in text
    assert "/ 10:18" in text


def test_a_clear_win_is_marked(tmp_path: Path) -> None:
    weak = made("pgd", {(0.3, 200): range(20)}, [200], method="int_one_class")
    compare.report([made("pgd", {}, [200]), weak], tmp_path / "t", title="T")
    assert (tmp_path / "t.md").read_text().count(r"+0.900\*") == 1


def test_comparison_refuses_other_images_and_missing_cells(tmp_path: Path) -> None:
    ours, adv = made("pgd", {}, [200]), made("pgd", {}, [200], method="adv")
    with pytest.raises(IrpipeError, match="lacks ε = 0 at 100 steps"):
        compare.report([ours, adv], tmp_path / "t", title="T", steps=100)
    adv.arrays["index"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="mnist/small/adv/released/pgd are of other images"):
        compare.report([ours, adv], tmp_path / "t", title="T")
    with pytest.raises(IrpipeError, match="no network has both methods of int and adv or"):
        compare.report([ours], tmp_path / "t", title="T")
    assert not list(tmp_path.iterdir())


# --- masking -----------------------------------------------------------------------------------------------

FALLING = {(eps, count): range(200 - int(200 * eps) - count) for eps in RADII for count in (1, 100)}


def strong(**arrays: Any) -> Result:
    """Accuracy .695 at one step and .2 at a hundred."""
    result = made("strong", FALLING, [1, 100])
    result.arrays.update(arrays)
    return result


def raised(*members: Result) -> list[str]:
    return [flag.name for flag in flags(members, "t") if flag.raised]


def square(kept: int) -> Result:
    right = {(eps, 5): range(kept) for eps in RADII}
    return made("autoattack", right, [5], attack="square", spec={"components": ["square"]})


def test_nothing_is_raised_where_stronger_attacks_win_more() -> None:
    fixed = made("pgd", {}, [30, 200])
    assert raised(strong(), square(40), fixed) == []  # as many as the white box
    moved = made("transfer", {(0.3, 1): range(40)}, [1])
    assert said(flags([strong(), square(40), moved, fixed], "t")) == "no sign of masking"
    assert said(flags([strong(), square(40)], "t")) == (
        "no sign of masking; not looked for: transfer beats white-box, steps times step size below the radius"
    )
    assert {flag.name for flag in flags([strong(), square(40), moved, fixed], "t")} == set(SIGNS)


def test_each_sign_is_raised_by_more_than_chance() -> None:
    """The white box leaves the first 40; six images that only one attack wins have p = 2/64, five 2/32."""
    for kept, found in ((35, False), (34, True)):
        assert raised(strong(), square(kept)) == ["black-box beats white-box"] * found
        assert raised(strong(), made("transfer", {(0.3, 1): range(kept)}, [1])) == ["transfer beats white-box"] * found
        few = dict(FALLING) | {(0.3, 1): range(kept)}
        assert raised(made("strong", few, [1, 100])) == ["one-step beats many-step"] * found
    for kept, expected in ((65, []), (66, ["accuracy does not fall with the radius"])):  # from 60 at .2
        rising = dict(FALLING) | {(0.3, 100): range(kept)}
        assert raised(made("strong", rising, [1, 100])) == expected
    flat = {(eps, count): range(9) for eps in RADII for count in (1, 100)}
    assert raised(made("strong", flat, [1, 100])) == ["accuracy does not fall with the radius"]


def test_gradients_may_follow_autoattack() -> None:
    """Its first parts win eight of the forty that `strong` leaves; what Square wins there is the black box's."""
    for beaten, expected in ((3, []), (4, ["black-box beats white-box"])):
        whole = made("autoattack", {(0.3, 5): range(32)}, [5], spec={"components": ["a", "b", "c", "square"]})
        whole.arrays["beaten"] = np.where(whole.arrays["correct"], 0, beaten)
        assert raised(strong(), whole, square(32)) == expected


def test_rivals_are_of_the_same_images() -> None:
    rival = square(40)
    rival.arrays["index"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="are of other images"):
        flags([strong(), rival], "t")


def test_vanishing_gradients_and_lucky_iterates() -> None:
    slope = np.ones((200, len(RADII), 2))
    for count, expected in ((10, []), (11, ["vanishing gradients"])):  # 5% of 200
        slope[:count, :, :] = 1e-9
        slope[0] = 0
        assert raised(strong(gradient=slope)) == expected
    (flag,) = [flag for flag in flags([strong(gradient=slope)], "t") if flag.raised]
    assert flag.numbers == "zero for 0.5% of images, below 1e-07 for 5.5%"
    last = strong().arrays["correct"].copy()
    for kept, expected in ((45, []), (46, ["last iterate better than worst"])):  # the worst leaves 40
        last[:kept, RADII.index(0.3), 1] = True
        assert raised(strong(last=last)) == expected
    assert said(flags([strong(last=last)], "t")).startswith(
        "no sign of masking; attack too weak: last iterate better than worst; not looked for: black-box"
    )


def test_fixed_steps_that_fall_short_are_named() -> None:
    (flag,) = flags([made("pgd", {}, [1, 10, 30])], "t")
    assert flag.raised
    assert not flag.network
    assert flag.numbers == "1 and 10 steps of 0.01 stay short of 0.3"
    assert raised(made("pgd", {}, [1, 10], spec=PGD | {"relative": 2.5})) == []


def test_masking_report(tmp_path: Path) -> None:
    pgd = made("pgd", {}, [1, 200])
    masking.report([strong(), square(34), pgd], tmp_path / "m", title="M", attacks=["pgd", "strong", "square"])
    found = {row["sign"]: row for row in rows(tmp_path / "m.csv")}
    row = found["black-box beats white-box"]
    assert (row["raised"], row["value"], row["against"], row["about"]) == ("yes", "0.17", "0.2", "network")
    line = "masking suspected: black-box beats white-box; attack too weak: steps times step size below the radius"
    line += "; not looked for: transfer beats white-box"
    assert row["verdict"] == line
    assert line in (tmp_path / "m.md").read_text()
    assert found["vanishing gradients"]["raised"] == "no"


# --- verdicts ----------------------------------------------------------------------------------------------


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
    assert judge(SIMILAR, value, low) == expected


@pytest.mark.parametrize(
    ("value", "low", "expected"),
    [(0.1, 0.01, "holds"), (0.1, -0.01, "holds weaker"), (-0.01, -0.1, "not supported"), (0.0, 0.0, "not supported")],
)
def test_rule_of_more_robust(value: float, low: float, expected: str) -> None:
    assert judge(TAU, value, low) == expected


def sides(method: str, pgd: range, attacked: range) -> list[Result]:
    names = {"method": method}
    return [made("pgd", {(0.3, 200): pgd}, [200], **names), made("strong", {(0.3, 100): attacked}, [1, 100], **names)]


def test_stress_is_the_worst_for_each_image(tmp_path: Path) -> None:
    ours = sides("int", range(158), range(10, 200))  # right under both: 148
    adv = sides("adv", range(178), range(176))
    found = find(SIMILAR, ours, adv, "t")
    assert found is not None
    assert found.published == "0.790 against 0.890 (Table 3)"
    assert found.ours == "0.790 against 0.890"
    assert found.stress.startswith("0.740 against 0.880, difference -0.140 [")
    assert found.value == pytest.approx(-0.14)
    assert found.verdict == "holds weaker"
    verdict.report([*ours, *adv], tmp_path / "v", title="V", attacks=["pgd", "strong"])
    by = {row["claim"]: row for row in rows(tmp_path / "v.csv")}
    row = by[SIMILAR.text]
    assert (row["verdict"], row["difference"], row["n"]) == ("holds weaker", "-0.14", "200")
    assert row["results"].split()[:2] == ["mnist/small/int/released/pgd", "mnist/small/int/released/strong"]
    assert set(by) == {SIMILAR.text, ARTEFACT.text}
    assert "about as robust" in (tmp_path / "v.md").read_text()


def test_attacks_that_only_one_network_met_do_not_count() -> None:
    ours, adv = sides("int", range(158), range(10)), sides("adv", range(158), range(200))[:1]
    found = find(SIMILAR, ours, adv, "t")
    assert found is not None
    assert (found.value, found.verdict) == (0, "holds")


def test_an_artefact_is_judged_by_the_signs() -> None:
    fixed = made("pgd", {}, [30, 200])
    judged = [
        find(ARTEFACT, members, members, "t")
        for members in ([fixed, strong()], [made("pgd", {}, [1, 200]), strong()], [fixed, strong(), square(34)])
    ]
    assert [found and found.verdict for found in judged] == ["holds", "holds weaker", "not supported"]
    assert judged[1] is not None
    assert judged[1].ours == "1.000 at 1, 1.000 at 200 steps"


def maps(method: str, tau: float, kept: range, right: range, hinge: float = 0.0) -> Result:
    spec = {"hinge": hinge, "interpreter": "cam"}
    result = made("aai", {(0.3, 200): right}, [200], method=method, spec=spec, attack=f"aai{hinge:g}")
    shape = result.arrays["correct"].shape
    held = np.isin(np.arange(200), kept)[:, None, None] & np.ones(shape, bool)
    result.arrays.update(tau=np.full(shape, tau), defined=np.ones(shape, bool), kept=held)
    return result


def test_maps_of_lost_images_count_as_nothing() -> None:
    ours = [maps("int", 0.9, range(180), range(190)), maps("int", 0.5, range(100), range(200), hinge=1)]
    adv = [maps("adv", 0.8, range(200), range(200)), maps("adv", 0.4, range(200), range(150), hinge=1)]
    found = find(TAU, ours, adv, "t")
    assert found is not None
    assert found.published == "0.913 against 0.857 (Table 2)"
    assert found.ours == "0.900 against 0.800"
    assert found.stress.startswith("0.250 against 0.300, difference -0.050")  # .5 of 100, .4 of 150
    assert found.verdict == "not supported"


def test_no_claim_without_the_methods(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="no claim can be judged; wants results of Int"):
        verdict.report(sides("adv", range(9), range(9)), tmp_path / "v", title="V", attacks=["pgd", "strong"])
