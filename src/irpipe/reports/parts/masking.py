"""Signs that a network hides its gradients instead of being robust, or that an attack was too weak to tell.

After Athalye et al. (ICML 2018) and Carlini et al. (arXiv:1902.06705), from results of several attacks on one network,
all at the data set's radius. Attacks are known by their kind: `strong`, the white box; `autoattack` with Square alone,
the black box; `transfer`; and `pgd`, the paper's.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irpipe.io import Result
from irpipe.reports.parts.paired import right
from irpipe.reports.parts.selection import SAME, eps_label, located

VANISHED = 1e-7  # about the resolution of float32 at 1: below it, softmax rounds to the label
SHARE = 0.05  # of images whose gradient may vanish
MISSED = 0.01  # accuracy that the last iterate may leave above the worst


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
        white = _accuracy(strong, report)
        found += [_one_step(strong, white, report), _radius(strong, report), _gradient(strong), _iterate(strong, white)]
        rivals = {"black box": "black-box beats white-box", "transfer": "transfer beats white-box"}
        found += [_rival(name, _accuracy(by[role], report), white) for role, name in rivals.items() if role in by]
    return found + ([_reach(by["pgd"])] if "pgd" in by else [])


def verdict(found: Sequence[Flag]) -> str:
    """One line on what the raised flags say."""
    network = [flag.name for flag in found if flag.raised and flag.network]
    attack = [flag.name for flag in found if flag.raised and not flag.network]
    said = f"masking suspected: {', '.join(network)}" if network else "no sign of masking"
    return said + (f"; attack too weak: {', '.join(attack)}" if attack else "")


def _role(result: Result) -> str:
    alone = result.attrs["kind"] == "autoattack" and result.attrs["spec"]["components"] == ["square"]
    return "black box" if alone else str(result.attrs["kind"])


def _accuracy(result: Result, report: str, steps: int | None = None, eps: float | None = None) -> float:
    """At the nominal radius and the most steps, unless told."""
    count = int(result.arrays["steps"].max()) if steps is None else steps
    return float(right(result, result.attrs["nominal_radius"] if eps is None else eps, count, report).mean())


def _one_step(strong: Result, white: float, report: str) -> Flag:
    fewest, most = int(strong.arrays["steps"].min()), int(strong.arrays["steps"].max())
    few = _accuracy(strong, report, fewest)
    numbers = f"accuracy {few:.3f} under {fewest}, {white:.3f} under {most}"
    return Flag("one-step beats many-step", few < white, few, white, numbers)


def _rival(name: str, rival: float, white: float) -> Flag:
    return Flag(name, rival < white, rival, white, f"accuracy {rival:.3f} against {white:.3f}")


def _radius(strong: Result, report: str) -> Flag:
    """Whether accuracy rises by more than one image from a radius to the next, or does not fall over all."""
    radii = sorted(float(eps) for eps in strong.arrays["eps"])
    rates = [_accuracy(strong, report, eps=eps) for eps in radii]
    rise = max((after - before for before, after in itertools.pairwise(rates)), default=0.0)
    allowed = 1 / len(strong.arrays["correct"])
    numbers = ", ".join(f"{rate:.3f} at {eps_label(eps)}" for eps, rate in zip(radii, rates, strict=True))
    flat = len(rates) > 1 and rates[-1] >= rates[0]
    return Flag("accuracy does not fall with the radius", rise > allowed + SAME or flat, rise, allowed, numbers)


def _gradient(strong: Result) -> Flag:
    """Whether the cross-entropy has no gradient worth the name at many clean images."""
    slope = _at_radius(strong, "gradient")
    zero, vanished = float((slope == 0).mean()), float((slope < VANISHED).mean())
    numbers = f"zero for {zero:.1%} of images, below {VANISHED:g} for {vanished:.1%}"
    return Flag("vanishing gradients", vanished > SHARE, vanished, SHARE, numbers)


def _iterate(strong: Result, white: float) -> Flag:
    last = float(_at_radius(strong, "last").mean())
    numbers = f"accuracy {last:.3f} by the last iterate of one start, {white:.3f} by the worst of all"
    return Flag("last iterate better than worst", last - white > MISSED + SAME, last, white, numbers, network=False)


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
