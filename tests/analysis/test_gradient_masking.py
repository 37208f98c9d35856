"""Flags for masked gradients, on results of known accuracy."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import EPS, FALLING, PGD_OPTIONS, make_proofs, make_result, read_rows

from irpipe.analysis.gradient_masking import FLAG_NAMES, masking_flags, summarise
from irpipe.errors import IrpipeError
from irpipe.reports import masking_table
from irpipe.results.result import Result


def margin_pgd(**arrays: Any) -> Result:
    """A white box that leaves the first 40 of 200 images correct at eps 0.3."""
    result = make_result("margin_pgd", FALLING, [1, 100])
    result.arrays.update(arrays)
    return result


def square(n_correct: int) -> Result:
    """A black box that leaves the first `n_correct` images correct."""
    correct = {(eps, 5): range(n_correct) for eps in EPS}
    options = {"attacks_to_run": ["square"]}
    return make_result("autoattack", correct, [5], attack="square", options=options)


def raised(*group: Result) -> list[str]:
    return [flag.name for flag in masking_flags(group, "t") if flag.is_raised]


def test_no_flag_is_raised_if_stronger_attacks_do_better() -> None:
    pgd = make_result("pgd", {}, [1, 200])
    assert raised(margin_pgd(), square(40), pgd) == []  # Square leaves as many as the white box
    transfer = make_result("transfer", {(0.3, 1): range(40)}, [1])
    proofs = make_proofs({eps: (30, 40) for eps in EPS})
    flags = masking_flags([margin_pgd(), square(40), transfer, pgd, proofs], "t")
    assert summarise(flags) == "8 of 8 signs of masking looked for; none found"
    assert {flag.name for flag in flags} == set(FLAG_NAMES)
    assert summarise(masking_flags([margin_pgd(), square(40)], "t")) == (
        "5 of 8 signs of masking looked for; none found; not looked for: transfer beats white-box, "
        "steps times step size below eps, proofs meet attacks"
    )


@pytest.mark.parametrize(("n_correct", "is_raised"), [(35, False), (34, True)])
def test_rivals_raise_a_flag_by_more_than_chance(n_correct: int, is_raised: bool) -> None:
    """The white box leaves 40. Five images fewer have p = 2/32 and six p = 2/64."""
    black_box = raised(margin_pgd(), square(n_correct))
    assert black_box == ["black-box beats white-box"] * is_raised
    transfer = make_result("transfer", {(0.3, 1): range(n_correct)}, [1])
    assert raised(margin_pgd(), transfer) == ["transfer beats white-box"] * is_raised
    one_step = dict(FALLING) | {(0.3, 1): range(n_correct)}
    few_steps = raised(make_result("margin_pgd", one_step, [1, 100]))
    assert few_steps == ["one-step beats many-step"] * is_raised


@pytest.mark.parametrize(
    ("n_correct", "expected"), [(65, []), (66, ["accuracy does not fall with eps"])]
)
def test_accuracy_may_not_rise_by_more_than_chance(n_correct: int, expected: list[str]) -> None:
    """It is 60 images at eps 0.2."""
    rising = dict(FALLING) | {(0.3, 100): range(n_correct)}
    assert raised(make_result("margin_pgd", rising, [1, 100])) == expected


def test_accuracy_may_not_stay_equal() -> None:
    flat = {(eps, count): range(40) for eps in EPS for count in (1, 100)}
    result = make_result("margin_pgd", flat, [1, 100])
    assert raised(result) == ["accuracy does not fall with eps"]


@pytest.mark.parametrize("n_correct", [0, 9, 28])
def test_an_accuracy_at_chance_has_nothing_to_lose(n_correct: int) -> None:
    """Of ten classes, chance gets 20 of 200 images; 29 are above it by Wilson's interval."""
    flat = {(eps, count): range(n_correct) for eps in EPS for count in (1, 100)}
    result = make_result("margin_pgd", flat, [1, 100])
    assert raised(result) == []
    numbers = [flag.numbers for flag in masking_flags([result], "t")]
    assert any(text.endswith("; nothing to lose") for text in numbers)


def test_an_accuracy_that_rises_from_nothing_is_a_sign() -> None:
    rising = {(eps, count): range(0) for eps in EPS for count in (1, 100)}
    result = make_result("margin_pgd", rising | {(0.3, 100): range(40)}, [1, 100])
    assert "accuracy does not fall with eps" in raised(result)


def test_results_of_one_role_count_together_in_any_order() -> None:
    """Two black boxes leave images 0 to 36 and 3 to 39, so together 34 of the white box's 40."""
    second = square(40)
    second.attrs["attack"] = "square_2"
    second.arrays["correct"][:3] = False
    first = square(37)
    assert raised(margin_pgd(), first) == raised(margin_pgd(), second) == []
    weak = make_result("margin_pgd", {}, [1, 100], attack="weak")
    group = [margin_pgd(), first, second, weak]
    flags = masking_flags(group, "t")
    for order in itertools.permutations(group):
        assert masking_flags(order, "t") == flags
    assert [flag.name for flag in flags if flag.is_raised] == ["black-box beats white-box"]
    numbers = {flag.name: flag.numbers for flag in flags}
    assert numbers["black-box beats white-box"] == "accuracy 0.170 against 0.200"


@pytest.mark.parametrize(("broken_by", "expected"), [(3, []), (4, ["black-box beats white-box"])])
def test_autoattack_counts_as_white_box_except_for_square(
    broken_by: int, expected: list[str]
) -> None:
    """AutoAttack leaves 32 of the white box's 40, by its third attack or by Square, its fourth."""
    options = {"attacks_to_run": ["a", "b", "c", "square"]}
    autoattack = make_result("autoattack", {(0.3, 5): range(32)}, [5], options=options)
    correct = autoattack.arrays["correct"]
    autoattack.arrays["broken_by"] = np.where(correct, 0, broken_by)
    assert raised(margin_pgd(), autoattack, square(32)) == expected


def test_rivals_must_have_the_same_images() -> None:
    rival = square(40)
    rival.arrays["indices"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="are of other images"):
        masking_flags([margin_pgd(), rival], "t")


def test_vanishing_gradients() -> None:
    """At most 5% of 200 images may have a gradient below 2^-23."""
    grad_linf = np.ones((200, len(EPS), 2))
    for n_vanished, expected in ((10, []), (11, ["vanishing gradients"])):
        grad_linf[:n_vanished] = 1e-9
        grad_linf[0] = 0
        assert raised(margin_pgd(grad_linf=grad_linf)) == expected
    flags = masking_flags([margin_pgd(grad_linf=grad_linf)], "t")
    (flag,) = [flag for flag in flags if flag.is_raised]
    assert flag.numbers == "zero for 0.5% of images, below 1e-07 for 5.5%"


def test_a_gradient_of_nan_counts_as_vanished() -> None:
    grad_linf = np.full((200, len(EPS), 2), np.nan)
    (flag,) = [
        flag for flag in masking_flags([margin_pgd(grad_linf=grad_linf)], "t") if flag.is_raised
    ]
    assert flag.name == "vanishing gradients"
    assert flag.numbers == "zero for 0.0% of images, below 1e-07 for 100.0%"


def test_weak_last_iterates() -> None:
    """The worst iterate leaves 40 images correct."""
    last_is_correct = margin_pgd().arrays["correct"].copy()
    for n_correct, expected in ((45, []), (46, ["last iterate weaker than worst"])):
        last_is_correct[:n_correct, EPS.index(0.3), 1] = True
        assert raised(margin_pgd(last_is_correct=last_is_correct)) == expected
    flags = masking_flags([margin_pgd(last_is_correct=last_is_correct)], "t")
    assert summarise(flags).startswith(
        f"4 of {len(FLAG_NAMES)} signs of masking looked for; "
        "attack too weak: last iterate weaker than worst; not looked for: black-box"
    )


@pytest.mark.parametrize(
    ("steps", "is_raised", "numbers"),
    [
        ([1, 10, 200], False, "200 steps of 0.01 can go 2, eps is 0.3"),
        ([1, 30], False, "30 steps of 0.01 can go 0.3, eps is 0.3"),
        ([1, 10, 29], True, "29 steps of 0.01 can go 0.29, eps is 0.3"),
        ([1], True, "1 step of 0.01 can go 0.01, eps is 0.3"),
    ],
)
def test_the_most_steps_of_pgd_must_reach_eps(
    steps: list[int], is_raised: bool, numbers: str
) -> None:
    (flag,) = masking_flags([make_result("pgd", {}, steps)], "t")
    assert flag.is_raised == is_raised
    assert flag.about == "attack"
    assert flag.numbers == numbers


def test_each_pgd_must_reach_eps() -> None:
    """With the factor 0.9, ten steps of 0.027 go 0.27 of 0.3."""
    options = PGD_OPTIONS | {"step_size_factor": 0.9}
    short = make_result("pgd", {}, [1, 10], attack="short", options=options)
    full = make_result("pgd", {}, [1, 200])
    (flag,) = masking_flags([full, short], "t")
    assert flag.is_raised
    assert flag.numbers == "200 steps of 0.01 can go 2; 10 steps of 0.027 can go 0.27, eps is 0.3"
    options = PGD_OPTIONS | {"step_size_factor": 2.5}
    assert raised(make_result("pgd", {}, [1, 10], options=options)) == []


def test_in_another_norm_signs_are_looked_for_at_the_largest_common_eps(tmp_path: Path) -> None:
    """The data set's eps is an l-inf bound."""
    options = PGD_OPTIONS | {"step_size_factor": 0.9}
    group = [margin_pgd(), square(34), make_result("pgd", {}, [1, 10], options=options)]
    for result in group:
        result.attrs.update(eps_norm="l2", train_eps=0.05)
    flags = {flag.name: flag for flag in masking_flags(group, "t")}
    assert len(flags) == 6
    assert flags["black-box beats white-box"].numbers == "accuracy 0.170 against 0.200"
    assert flags["steps times step size below eps"].value == pytest.approx(0.27)
    assert flags["steps times step size below eps"].is_raised
    masking_table.report(group, tmp_path / "m", title="M")
    assert "ε = 0.3 (ℓ2)" in (tmp_path / "m.md").read_text(encoding="utf-8")
    group[0].attrs["eps_norm"] = "linf"
    with pytest.raises(IrpipeError, match="t: eps bounds the l2 and the linf norm; take results"):
        masking_flags(group, "t")


def test_signs_at_an_eps_that_the_caller_names() -> None:
    """At eps 0.2 the white box leaves 60 of 200 images correct, Square 40."""
    flags = masking_flags([margin_pgd(), square(40)], "t", eps=0.2)
    (black_box,) = [flag for flag in flags if flag.name == "black-box beats white-box"]
    assert black_box.numbers == "accuracy 0.200 against 0.300"
    assert black_box.is_raised


def test_masking_table(tmp_path: Path) -> None:
    masking_table.report(
        [margin_pgd(), square(34), make_result("pgd", {}, [1, 10])],
        tmp_path / "m",
        title="M",
        attacks=["pgd", "margin_pgd", "square"],
    )
    rows = {row["flag"]: row for row in read_rows(tmp_path / "m.csv")}
    row = rows["black-box beats white-box"]
    assert row["raised"] == "yes"
    assert row["value"] == "0.17"
    assert row["against"] == "0.2"
    assert row["about"] == "network"
    summary = (
        f"6 of {len(FLAG_NAMES)} signs of masking looked for; "
        "masking suspected: black-box beats white-box; "
        "attack too weak: steps times step size below eps; "
        "not looked for: transfer beats white-box, proofs meet attacks"
    )
    assert row["summary"] == summary
    assert summary in (tmp_path / "m.md").read_text(encoding="utf-8")
    assert rows["vanishing gradients"]["raised"] == "no"


def test_one_step_count_and_one_eps_show_no_sign() -> None:
    """Without a second step count and a second eps, two of the signs cannot be there."""
    only = make_result("margin_pgd", {(0.3, 100): range(40)}, [100])
    for name in ("correct", "last_is_correct", "grad_linf"):
        only.arrays[name] = only.arrays[name][:, -1:]
    only.arrays["eps"] = np.array([0.3])
    assert summarise(masking_flags([only], "t")) == (
        "2 of 8 signs of masking looked for; none found; not looked for: one-step beats "
        "many-step, black-box beats white-box, transfer beats white-box, accuracy does not fall "
        "with eps, steps times step size below eps, proofs meet attacks"
    )
