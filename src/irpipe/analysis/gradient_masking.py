"""Flags for networks that mask their gradients, and for attacks that are too weak to tell.

After Athalye et al. (ICML 2018) and Carlini et al. (arXiv:1902.06705), from the results of several
attacks on one network at one eps. `analysis/roles.py` says which attack has which role.

One attack beats another if it leaves fewer images correct, by more than chance (`leaves_fewer`).
One image of 200 is never enough.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from irpipe.analysis.bracket import MAX_MISSED_SHARE, certified_images, proofs_meet
from irpipe.analysis.paired import leaves_fewer, require_same_images
from irpipe.analysis.roles import (
    Roles,
    at_most_steps,
    common_eps,
    correct_under,
    flags_eps,
    most_steps,
    roles,
    white_box_correct,
)
from irpipe.results.labels import EPS_TOLERANCE, counted, eps_label
from irpipe.results.result import Result
from irpipe.statistics import wilson

# A gradient entry below float32's resolution at 1 is as good as 0: a probability that is closer
# than this to 1 rounds to 1.
VANISHED_BELOW = 2.0**-23

ONE_STEP = "one-step beats many-step"
BLACK_BOX = "black-box beats white-box"
TRANSFER = "transfer beats white-box"
FLAT_IN_EPS = "accuracy does not fall with eps"
VANISHING_GRADIENTS = "vanishing gradients"
WEAK_LAST_ITERATE = "last iterate weaker than worst"
SHORT_STEPS = "steps times step size below eps"
PROOFS_MEET = "proofs meet attacks"
FLAG_NAMES = (
    ONE_STEP,
    BLACK_BOX,
    TRANSFER,
    FLAT_IN_EPS,
    VANISHING_GRADIENTS,
    WEAK_LAST_ITERATE,
    SHORT_STEPS,
    PROOFS_MEET,
)
NOTHING_TO_LOSE = "; nothing to lose"

About = Literal["network", "attack", "proofs"]


class MaskingFlag(NamedTuple):
    """One flag, and whether `is_raised` by its two numbers, `value` and `against`.

    `numbers` says the same in words. A raised flag tells against the network or the attack that it
    is about; if it is about proofs, it rules masking out.
    """

    name: str
    is_raised: bool
    value: float
    against: float
    numbers: str
    about: About = "network"


def masking_flags(
    group: Sequence[Result], report: str, eps: float | None = None
) -> list[MaskingFlag]:
    """The flags that can be computed from the results of one network, raised or not.

    None means `flags_eps`.

    Raises IrpipeError, which names `report`, if a result lacks this eps or has other images, and
    as `flags_eps` does.
    """
    if not group:
        return []
    by_role = roles(group)
    if eps is None:
        eps = flags_eps(group, report)
    flags: list[MaskingFlag] = []
    if "margin_pgd" in by_role:
        margin_pgd = by_role["margin_pgd"]
        for role in ("margin_pgd", "autoattack", "square", "transfer"):
            for result in by_role.get(role, ()):
                require_same_images(result, margin_pgd[0], report)
        correct = correct_under(margin_pgd, report, eps=eps)
        flags += [
            *_one_step(margin_pgd, correct, report, eps),
            *_flat_in_eps(margin_pgd, report),
            _vanishing_gradients(margin_pgd, eps),
            _weak_last_iterate(margin_pgd, correct, eps),
        ]
        by_white_box = white_box_correct(by_role, report, eps)
        for role, name in {"square": BLACK_BOX, "transfer": TRANSFER}.items():
            if role in by_role:
                rival_correct = correct_under(by_role[role], report, eps=eps)
                flags.append(_rival_attack(name, rival_correct, by_white_box))
    if "pgd" in by_role:
        flags.append(_steps_too_short(by_role["pgd"], eps))
    if "certify" in by_role and ("margin_pgd" in by_role or "pgd" in by_role):
        flags.append(_proofs_meet_attacks(by_role, report, eps))
    is_at_chance = "margin_pgd" in by_role and _is_at_chance(by_role["margin_pgd"], report)
    return [_not_raised(flag) for flag in flags] if is_at_chance else flags


def _is_at_chance(margin_pgd: Sequence[Result], report: str) -> bool:
    """Whether no eps has an accuracy above chance. Then no gradient can be blamed for it."""
    corrects = [correct_under(margin_pgd, report, eps=eps) for eps in common_eps(margin_pgd)]
    lower_bounds = [wilson(int(correct.sum()), len(correct))[0] for correct in corrects]
    return max(lower_bounds) <= 1 / len(margin_pgd[0].attrs["class_names"])


def _not_raised(flag: MaskingFlag) -> MaskingFlag:
    if not (flag.is_raised and flag.about == "network"):
        return flag
    return flag._replace(is_raised=False, numbers=flag.numbers + NOTHING_TO_LOSE)


def raised_names(flags: Sequence[MaskingFlag], about: About) -> list[str]:
    """The names of the raised flags that are about the network, the attack, or proofs."""
    return [flag.name for flag in flags if flag.is_raised and flag.about == about]


def is_suspected(flags: Sequence[MaskingFlag]) -> bool:
    """Whether a flag tells against the network and no proofs outdo it."""
    return bool(raised_names(flags, "network")) and not raised_names(flags, "proofs")


def summarise(flags: Sequence[MaskingFlag]) -> str:
    """One line: how many signs were looked for, which flags are raised, which had no result."""
    computed = {flag.name for flag in flags}
    missing = [name for name in FLAG_NAMES if name not in computed]
    labels: dict[About, str] = {
        "proofs": "masking ruled out",
        "network": "masking suspected" if is_suspected(flags) else "raised all the same",
        "attack": "attack too weak",
    }
    raised = [
        f"{label}: {', '.join(names)}"
        for about, label in labels.items()
        if (names := raised_names(flags, about))
    ]
    parts = [f"{len(computed)} of {len(FLAG_NAMES)} signs of masking looked for"]
    if any(flag.numbers.endswith(NOTHING_TO_LOSE) for flag in flags) and not is_suspected(flags):
        raised.append("nothing to lose, since the accuracy is at chance")
    parts += raised or ["none found"]
    if missing:
        parts.append(f"not looked for: {', '.join(missing)}")
    return "; ".join(parts)


def _one_step(
    margin_pgd: Sequence[Result], correct: np.ndarray, report: str, eps: float
) -> list[MaskingFlag]:
    """More steps of the same attack can only do better, unless its gradients mislead it.

    One step count shows nothing.
    """
    fewest = min(int(result.arrays["steps"].min()) for result in margin_pgd)
    most = max(map(most_steps, margin_pgd))
    if fewest == most:
        return []
    with_fewest = [result for result in margin_pgd if fewest in result.arrays["steps"]]
    few_correct = correct_under(with_fewest, report, steps=fewest, eps=eps)
    few_accuracy = float(few_correct.mean())
    accuracy = float(correct.mean())
    numbers = (
        f"accuracy {few_accuracy:.3f} under {counted(fewest, 'step')}, "
        f"{accuracy:.3f} under {counted(most, 'step')}"
    )
    is_raised = leaves_fewer(few_correct, correct)
    return [MaskingFlag(ONE_STEP, is_raised, few_accuracy, accuracy, numbers)]


def _rival_attack(name: str, correct: np.ndarray, white_box_correct: np.ndarray) -> MaskingFlag:
    """An attack that knows less than the white box should not do better."""
    accuracy = float(correct.mean())
    white_box_accuracy = float(white_box_correct.mean())
    numbers = f"accuracy {accuracy:.3f} against {white_box_accuracy:.3f}"
    is_raised = leaves_fewer(correct, white_box_correct)
    return MaskingFlag(name, is_raised, accuracy, white_box_accuracy, numbers)


def _flat_in_eps(margin_pgd: Sequence[Result], report: str) -> list[MaskingFlag]:
    """Accuracy should fall from one eps to the next, since the smaller ball lies in the larger one.

    The flag is raised if it rises anywhere by more than chance, or does not fall in total. Only if
    it is not above chance level at the smallest eps, there is nothing to lose in total. One eps
    shows nothing.
    """
    eps_values = common_eps(margin_pgd)
    if len(eps_values) < 2:
        return []
    correct = [correct_under(margin_pgd, report, eps=eps) for eps in eps_values]
    accuracies = [float(is_correct.mean()) for is_correct in correct]
    rises = any(leaves_fewer(smaller, larger) for smaller, larger in itertools.pairwise(correct))
    is_flat = accuracies[-1] >= accuracies[0]
    numbers = ", ".join(
        f"{accuracy:.3f} at {eps_label(eps)}"
        for eps, accuracy in zip(eps_values, accuracies, strict=True)
    )
    lowest, _ = wilson(int(correct[0].sum()), len(correct[0]))
    if lowest <= 1 / len(margin_pgd[0].attrs["class_names"]):
        is_flat = False
        numbers += NOTHING_TO_LOSE
    return [MaskingFlag(FLAT_IN_EPS, rises or is_flat, accuracies[-1], accuracies[0], numbers)]


def _vanishing_gradients(margin_pgd: Sequence[Result], eps: float) -> MaskingFlag:
    """The cross-entropy should have a gradient that float32 can represent at most clean images.

    A gradient with NaN gives an attack no direction, so it counts as vanished.
    """
    grad_linf = np.minimum.reduce(
        [at_most_steps(result, "grad_linf", eps) for result in margin_pgd]
    )
    zero = float((grad_linf == 0).mean())
    vanished = float((~(grad_linf >= VANISHED_BELOW)).mean())
    numbers = f"zero for {zero:.1%} of images, below {VANISHED_BELOW:.0e} for {vanished:.1%}"
    is_raised = vanished > MAX_MISSED_SHARE
    return MaskingFlag(VANISHING_GRADIENTS, is_raised, vanished, MAX_MISSED_SHARE, numbers)


def _weak_last_iterate(
    margin_pgd: Sequence[Result], correct: np.ndarray, eps: float
) -> MaskingFlag:
    """If the worst iterate does better, attacks by last iterates, as the paper's, are too weak."""
    last_correct = np.logical_and.reduce(
        [at_most_steps(result, "last_is_correct", eps).astype(bool) for result in margin_pgd]
    )
    last_accuracy = float(last_correct.mean())
    accuracy = float(correct.mean())
    numbers = (
        f"accuracy {last_accuracy:.3f} by the last iterate of one start, "
        f"{accuracy:.3f} by the worst of all"
    )
    return MaskingFlag(
        WEAK_LAST_ITERATE,
        leaves_fewer(correct, last_correct),
        last_accuracy,
        accuracy,
        numbers,
        about="attack",
    )


def _steps_too_short(pgd: Sequence[Result], eps: float) -> MaskingFlag:
    """PGD from the clean image needs steps * step_size >= eps to cross the ball (C.4 P2).

    The most steps of each result count, as for its accuracy. Fewer steps only show how it falls.
    """
    reached = []
    texts = []
    for result in pgd:
        options = result.attrs["options"]
        steps, factor = most_steps(result), options["step_size_factor"]
        step_size = options["step_size"] if factor is None else factor * eps / steps
        reached.append(steps * step_size)
        texts.append(f"{counted(steps, 'step')} of {step_size:.3g} can go {reached[-1]:.3g}")
    least = min(reached)
    is_raised = least < eps - EPS_TOLERANCE
    numbers = f"{'; '.join(texts)}, eps is {eps_label(eps)}"
    return MaskingFlag(SHORT_STEPS, is_raised, least, eps, numbers, about="attack")


def _proofs_meet_attacks(by_role: Roles, report: str, eps: float) -> MaskingFlag:
    """If (nearly) all that the white box leaves is certified, gradients hide nothing from it.

    Without `margin_pgd`, the paper's attack is the white box.
    """
    if "margin_pgd" not in by_role:
        by_role = {"margin_pgd": by_role["pgd"], "certify": by_role["certify"]}
    white_box = [*by_role["margin_pgd"], *by_role.get("autoattack", ())]
    first = white_box[0]
    met_at = []
    for bound in {eps, *common_eps([*white_box, *by_role["certify"]])} - {0.0}:
        correct = white_box_correct(by_role, report, bound)
        certified = np.logical_or.reduce(
            [certified_images(proofs, first, bound, report) for proofs in by_role["certify"]]
        )
        if proofs_meet(certified, correct):
            met_at.append(bound)
        if bound == eps:
            value, against = float(certified.mean()), float(correct.mean())
    numbers = f"certified {value:.3f}, attacked {against:.3f}"
    meet = eps in met_at
    if met_at and not meet:
        numbers += f"; they meet at ε = {', '.join(map(eps_label, sorted(met_at)))}"
    return MaskingFlag(PROOFS_MEET, meet, value, against, numbers, about="proofs")
