"""Signs that a network hides its gradients instead of being robust, or that an attack was too weak to tell.

After Athalye et al. (ICML 2018) and Carlini et al. (arXiv:1902.06705), from results of several attacks on one network,
all at the data set's radius. Attacks are known by their kind: `strong`, the white box, to which AutoAttack's parts that
follow gradients add; `autoattack` with Square alone, the black box; `transfer`; and `pgd`, the paper's. An attack beats
another if it leaves fewer images right by more than chance: one image of 200 is none, and McNemar's test on the same
images says so at any number of them.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.reports.parts.paired import difference, right, same_images
from irpipe.reports.parts.selection import SAME, eps_label, located

CHANCE = 0.05  # the level of all tests and intervals in the reports, for each sign alone
VANISHED = 2.0**-23  # the resolution of float32 at 1: a probability that far from its label's rounds to it
# Of images whose gradient may vanish: an attack may miss so many, and twice as many are the gap of .10 in accuracy that
# the paper calls comparable (`claims.SIMILAR`); fewer cannot turn that claim round.
SHARE = 0.05
SIGNS = (
    *("one-step beats many-step", "black-box beats white-box", "transfer beats white-box"),
    *("accuracy does not fall with the radius", "vanishing gradients", "last iterate better than worst"),
    "steps times step size below the radius",
)


class Flag(NamedTuple):
    """One sign: raised if `value` and `against` say so, in the words of `numbers`.

    `network`: it tells against the network; else against the attack.
    """

    name: str
    raised: bool
    value: float
    against: float
    numbers: str
    network: bool = True


def flags(members: Sequence[Result], report: str) -> list[Flag]:
    """The signs that the results of one network bear on; raises IrpipeError, naming `report`, if one lacks a radius."""
    by = {_role(result): result for result in members}
    found: list[Flag] = []
    if "strong" in by:
        strong = by["strong"]
        white = _right(strong, report)
        found += [_one_step(strong, white, report), _radius(strong, report), _gradient(strong), _iterate(strong, white)]
        rivals = {"black box": "black-box beats white-box", "transfer": "transfer beats white-box"}
        best = _white(by, report)
        for role, name in rivals.items():
            if role in by:
                same_images(by[role], strong, report)
                found.append(_rival(name, _right(by[role], report), best))
    return found + ([_reach(by["pgd"])] if "pgd" in by else [])


def verdict(found: Sequence[Flag]) -> str:
    """One line on what the raised flags say, and which signs no result bore on."""
    network = [flag.name for flag in found if flag.raised and flag.network]
    attack = [flag.name for flag in found if flag.raised and not flag.network]
    said = f"masking suspected: {', '.join(network)}" if network else "no sign of masking"
    said += f"; attack too weak: {', '.join(attack)}" if attack else ""
    missing = [sign for sign in SIGNS if sign not in [flag.name for flag in found]]
    return said + (f"; not looked for: {', '.join(missing)}" if missing else "")


def _role(result: Result) -> str:
    alone = result.attrs["kind"] == "autoattack" and result.attrs["spec"]["components"] == ["square"]
    return "black box" if alone else str(result.attrs["kind"])


def _right(result: Result, report: str, steps: int | None = None, eps: float | None = None) -> np.ndarray:
    """Which images are right, `[N]`, at the nominal radius and the most steps, unless told."""
    count = int(result.arrays["steps"].max()) if steps is None else steps
    return right(result, result.attrs["nominal_radius"] if eps is None else eps, count, report)


def _fewer(less: np.ndarray, more: np.ndarray) -> bool:
    """Whether the first has fewer images right, by more than chance."""
    found = difference(less, more)
    return found.value < 0 and found.p < CHANCE


def _one_step(strong: Result, white: np.ndarray, report: str) -> Flag:
    fewest, most = int(strong.arrays["steps"].min()), int(strong.arrays["steps"].max())
    few = _right(strong, report, fewest)
    numbers = f"accuracy {few.mean():.3f} under {fewest}, {white.mean():.3f} under {most}"
    return Flag("one-step beats many-step", _fewer(few, white), float(few.mean()), float(white.mean()), numbers)


def _white(by: dict[str, Result], report: str) -> np.ndarray:
    """Which images all attacks by gradients leave right: `strong`, and AutoAttack but for what only Square won."""
    kept = _right(by["strong"], report)
    if "autoattack" in by:
        result = by["autoattack"]
        same_images(result, by["strong"], report)
        square = [*result.attrs["spec"]["components"], "square"].index("square") + 1  # `beaten` counts from 1
        kept &= _right(result, report) | (_at_radius(result, "beaten") == square)
    return kept


def _rival(name: str, rival: np.ndarray, white: np.ndarray) -> Flag:
    numbers = f"accuracy {rival.mean():.3f} against {white.mean():.3f}"
    return Flag(name, _fewer(rival, white), float(rival.mean()), float(white.mean()), numbers)


def _radius(strong: Result, report: str) -> Flag:
    """Whether accuracy rises from a radius to the next by more than chance, or does not fall over all."""
    radii = sorted(float(eps) for eps in strong.arrays["eps"])
    kept = [_right(strong, report, eps=eps) for eps in radii]
    rates = [float(part.mean()) for part in kept]
    rises = any(_fewer(before, after) for before, after in itertools.pairwise(kept))
    numbers = ", ".join(f"{rate:.3f} at {eps_label(eps)}" for eps, rate in zip(radii, rates, strict=True))
    flat = len(rates) > 1 and rates[-1] >= rates[0]
    return Flag("accuracy does not fall with the radius", rises or flat, rates[-1], rates[0], numbers)


def _gradient(strong: Result) -> Flag:
    """Whether the cross-entropy has no gradient worth the name at many clean images."""
    slope = _at_radius(strong, "gradient")
    zero, vanished = float((slope == 0).mean()), float((slope < VANISHED).mean())
    numbers = f"zero for {zero:.1%} of images, below {VANISHED:.0e} for {vanished:.1%}"
    return Flag("vanishing gradients", vanished > SHARE, vanished, SHARE, numbers)


def _iterate(strong: Result, white: np.ndarray) -> Flag:
    last = _at_radius(strong, "last").astype(bool)
    numbers = f"accuracy {last.mean():.3f} by the last iterate of one start, {white.mean():.3f} by the worst of all"
    raised = _fewer(white, last)
    return Flag("last iterate better than worst", raised, float(last.mean()), float(white.mean()), numbers, False)


def _reach(pgd: Result) -> Flag:
    """Whether fixed steps are too few to cross the radius from the image itself (protocol C.4 P2)."""
    spec, radius = pgd.attrs["spec"], pgd.attrs["nominal_radius"]
    short = [int(count) for count in pgd.arrays["steps"] if count * spec["step_size"] < radius - SAME]
    least = int(pgd.arrays["steps"].min()) * spec["step_size"]
    named = " and ".join(str(count) for count in short)
    numbers = f"{named or 'no'} steps of {spec['step_size']:g} stay short of {eps_label(radius)}"
    raised = bool(short) and spec["relative"] is None
    return Flag("steps times step size below the radius", raised, least, radius, numbers, network=False)


def _at_radius(result: Result, array: str) -> np.ndarray:
    """An array `[N]` at the nominal radius, which `right` has seen to be there, and the most steps."""
    at = located(result, result.attrs["nominal_radius"], int(result.arrays["steps"].max()))
    assert at is not None
    found: np.ndarray = result.arrays[array][:, *at]
    return found
