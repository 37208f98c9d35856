"""The paper's claims on robustness, and what results say of them: the published attack, then every attack at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.published import values
from irpipe.reports.parts.cells import Column, beside
from irpipe.reports.parts.correlation import correlation, lasting
from irpipe.reports.parts.masking import flags, verdict
from irpipe.reports.parts.paired import right, same_images
from irpipe.reports.parts.selection import SAME, located
from irpipe.stats import bootstrap

STEPS = 200  # of the paper's attacks, C.4, C.6-2
TABLES = {"pgd": ("3", "A1"), "aai_cam": ("2", "A4"), "aai_gradcampp": ("A5",)}  # where an attack's numbers are printed
Verdict = Literal["holds", "holds weaker", "not supported"]


@dataclass(frozen=True)
class Claim:
    """That `first` exceeds `second` by more than `least` in accuracy or in the correlation of `maps` (an interpreter).

    Without `second`: that the robustness of `first` is no artefact. `floor`: what the difference must exceed for the
    claim to hold weaker. `source`: where the paper says so.
    """

    text: str
    source: str
    first: str
    second: str | None = None
    least: float = 0.0
    floor: float = 0.0
    maps: str = ""


SIMILAR = -0.1  # the gap that the paper calls comparable: .790 against .890
CLAIMS = (
    Claim("Int is about as robust as adversarial training", "abstract; Table 3", "int", "adv", SIMILAR, 1.5 * SIMILAR),
    Claim("Interpretability alone makes a network robust", "title, contribution 3; Table 3", "int", "normal"),
    Claim("Int is more robust than IG-Norm, even to strong attacks", "contribution 3; Table 3", "int", "ig_norm"),
    Claim("Int is more robust than IG-Norm with the weights of Chen et al.", "protocol C.3 T6", "int", "ig_norm_chen"),
    Claim("Int with two classes is more robust than with one", "Sec. 5; Table 3", "int", "int_one_class"),
    Claim("Int's robustness is no artefact of obfuscated gradients", "Sec. 5; Tables 3 and 4", "int"),
    Claim("Int explains more robustly than adversarial training", "Sec. 6; Table 2", "int", "adv", maps="cam"),
    Claim("The same of explanations by GradCAM++", "Table A5", "int", "adv", maps="gradcampp"),
)  # fmt: skip


class Finding(NamedTuple):
    """A claim on one data set, model and run: what is printed, what the published and all attacks give, the verdict.

    `used`: the results that this rests on. `value`, `low`, `high`: the difference under all attacks with its 95%
    interval; none for a claim on artefacts.
    """

    claim: Claim
    published: str
    ours: str
    stress: str
    verdict: Verdict
    used: Sequence[Result]
    value: float | None = None
    low: float | None = None
    high: float | None = None


def find(claim: Claim, first: Sequence[Result], second: Sequence[Result], report: str) -> Finding | None:
    """What the results of one network, or of two, say of a claim; None if they do not bear on it.

    Raises IrpipeError, naming `report`, if two results are of other images or lack the data set's radius.
    """
    if claim.second is None:
        return _artefact(claim, first, report)
    shared = {result.attrs["attack"] for result in first} & {result.attrs["attack"] for result in second}
    sides = [
        [result for result in side if _maps(result) == claim.maps and result.attrs["attack"] in shared]
        for side in (first, second)
    ]
    published = [next((result for result in side if _published(result)), None) for side in sides]
    if published[0] is None or published[1] is None:
        return None
    for result in (*sides[0], *sides[1]):
        same_images(published[0], result, report)
    plain = [_plain(result, report) for result in published if result]
    scores = [np.min([_scores(result, report) for result in side], axis=0) for side in sides]
    apart = scores[0] - scores[1]
    low, high = bootstrap(apart)
    value = float(apart.mean())
    return Finding(
        claim,
        _printed(published[0], published[1]),
        f"{plain[0]:.3f} against {plain[1]:.3f}",
        f"{scores[0].mean():.3f} against {scores[1].mean():.3f}, difference {value:+.3f} [{low:+.3f}, {high:+.3f}]",
        judge(claim, value, low),
        [*sides[0], *sides[1]],
        *(value, low, high),
    )


def judge(claim: Claim, value: float, low: float) -> Verdict:
    """Whether the interval of the difference, down to `low`, lies above the bound, else its value above the floor."""
    return "holds" if low > claim.least + SAME else "holds weaker" if value > claim.floor + SAME else "not supported"


def _published(result: Result) -> bool:
    """Whether an attack is the paper's: of its kind, as its released code has it."""
    spec, kind = result.attrs["spec"], result.attrs["kind"]
    if kind == "aai":
        return not spec["hinge"] and spec.get("objective", "topk") == "topk"
    other = spec.get("precision") == "bfloat16"  # older results name none
    return kind == "pgd" and not (spec["relative"] or spec["random_start"] or other)


def _maps(result: Result) -> str:
    """Whose maps an attack is on; none: it is on the prediction."""
    return result.attrs["spec"]["interpreter"] if "tau" in result.arrays else ""


def _plain(result: Result, report: str) -> float:
    """The number that the paper gives for a network: accuracy, or the mean correlation of the maps that count."""
    radius, steps = result.attrs["nominal_radius"], int(result.arrays["steps"].max())
    if "tau" not in result.arrays:
        return float(right(result, radius, steps, report).mean())
    found = correlation(result, radius, steps)
    return found.value if found else math.nan


def _scores(result: Result, report: str) -> np.ndarray:
    """What an attack leaves of each image at the data set's radius, `[N]`: the least over its step counts.

    1 if it is right, else 0; of maps, `correlation.lasting`.
    """
    radius, counts = result.attrs["nominal_radius"], [int(count) for count in result.arrays["steps"]]
    correct = np.array([right(result, radius, count, report) for count in counts])
    if "tau" not in result.arrays:
        return correct.all(axis=0).astype(float)
    at = [located(result, radius, count) for count in counts]
    left = lasting(result.arrays)
    least: np.ndarray = np.min([left[:, *place] for place in at if place], axis=0)
    return least


def _printed(first: Result, second: Result) -> str:
    """The two printed numbers, and the table that has both."""
    spec = first.attrs["spec"]
    attack = "pgd" if first.attrs["kind"] == "pgd" else f"aai_{spec['interpreter']}"
    column = Column("", first.attrs["nominal_radius"], STEPS, attack)
    for table in TABLES.get(attack, ()):
        found = [beside(values(table), result, column) for result in (first, second)]
        if found[0] and found[1]:
            return f"{found[0].value:.3f} against {found[1].value:.3f} (Table {table})"
    return ""


def _artefact(claim: Claim, members: Sequence[Result], report: str) -> Finding | None:
    """Signs of masking: the published attack's own, then all; the claim is weaker if only an attack is to blame."""
    used = [result for result in members if not _maps(result)]
    found = flags(used, report)
    if not found:
        return None
    against = [flag.network for flag in found if flag.raised]
    judged: Verdict = "not supported" if any(against) else "holds weaker" if against else "holds"
    ours = "".join(_by_steps(result, report) for result in used if _published(result))
    return Finding(claim, "accuracy falls with radius and steps", ours, verdict(found), judged, used)


def _by_steps(result: Result, report: str) -> str:
    counts, radius = [int(count) for count in result.arrays["steps"]], result.attrs["nominal_radius"]
    rates = [f"{right(result, radius, count, report).mean():.3f} at {count}" for count in counts]
    return ", ".join(rates) + " steps"
