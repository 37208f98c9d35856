"""Another network next to the one of a page of `irpipe stress`: paired tests on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from irpipe.analysis.paired import ALPHA, Difference, difference
from irpipe.analysis.roles import at_most_steps
from irpipe.reports.stress_page.numbers import (
    StressNumbers,
    accuracy_at,
    correct_at,
    is_bounded,
)
from irpipe.results.labels import eps_norm
from irpipe.results.result import Result
from irpipe.statistics import holm

ALL_ATTACKS = "all attacks together"
# Options in which two results of one attack may differ: they do not decide how strong it is.
FREE_OPTIONS = {"batch_size", "eps", "images", "skip_certified"}


@dataclass(frozen=True)
class OtherNetwork:
    """A network to compare with: its name, the argument that named it, and its results."""

    name: str
    source: str
    results: Sequence[Result]


class PairedTest(NamedTuple):
    """This network's accuracy minus that of `other` under an attack; `p_holm` is corrected."""

    other: str
    attack: str
    difference: Difference
    p_holm: float


def paired_tests(numbers: StressNumbers, others: Sequence[OtherNetwork]) -> list[PairedTest]:
    """The tests of all attacks that both networks met, at the eps of the verdict.

    Those on other images, with other options, or without this eps, are left out. Holm's correction
    is over all tests.
    """
    rows = []
    for other in others:
        pairs = _pairs(numbers, other)
        if len(pairs) > 1:
            first, second = (
                np.logical_and.reduce([correct_at(result, numbers.eps) for result in group])
                for group in zip(*pairs, strict=True)
            )
            rows.append((other.name, ALL_ATTACKS, difference(first, second)))
        for pair in pairs:
            first, second = (
                at_most_steps(result, "correct", numbers.eps).astype(bool) for result in pair
            )
            attack = str(pair[0].attrs["attack"])
            rows.append((other.name, attack, difference(first, second)))
    p_holm = holm([gap.p for *_, gap in rows])
    return [PairedTest(*row, p) for row, p in zip(rows, p_holm, strict=True)]


def difference_sentence(network: str, tests: Sequence[PairedTest], other: str) -> str:
    """What the tests say of a network and another one, under all attacks together."""
    own = [test for test in tests if test.other == other]
    if not own:
        return (
            f"No attack met both {network} and {other} with the same options on the same images at "
            "the verdict's ε."
        )
    test = own[0]
    gap = test.difference
    more = "more" if gap.value > 0 else "less"
    comparison = f"{100 * abs(gap.value):.1f} points {more} accurate than {other}"
    if gap.value == 0:
        comparison = f"as accurate as {other}"
    elif test.p_holm >= ALPHA:
        comparison += ", which can be chance"
    return (
        f"Under {test.attack}, {network} is {comparison} "
        f"(95% interval [{gap.low:+z.1%}, {gap.high:+z.1%}], n = {gap.n}, McNemar's "
        f"p = {test.p_holm:.2g} after Holm's correction)."
    )


def is_same_attack(first: Result, second: Result) -> bool:
    """Whether two results with accuracies within eps are of one attack, with the same options."""
    options, other_options = (
        {key: value for key, value in result.attrs["options"].items() if key not in FREE_OPTIONS}
        for result in (first, second)
    )
    names = (first.attrs["attack"], eps_norm(first))
    is_same = names == (second.attrs["attack"], eps_norm(second)) and options == other_options
    return is_same and is_bounded(second)


def _pairs(numbers: StressNumbers, other: OtherNetwork) -> list[tuple[Result, Result]]:
    """The results of attacks that both networks met on the same images at the verdict's eps."""
    return [
        (result, second)
        for result in numbers.counted
        for second in other.results
        if is_same_attack(result, second)
        and accuracy_at(second, numbers.eps)
        and np.array_equal(result.arrays["indices"], second.arrays["indices"])
    ]
