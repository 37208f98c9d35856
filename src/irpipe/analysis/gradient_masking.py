"""Flags for networks that mask their gradients, and for attacks that are too weak to tell.

After Athalye et al. (ICML 2018) and Carlini et al. (arXiv:1902.06705), from the results of several
attacks on one network at the data set's eps. A result's role follows from its kind; several results
of one role count together: an image is correct if it is under all of them.
- `margin_pgd` is the white box, together with those parts of AutoAttack that follow gradients;
- `autoattack` with Square alone is the black box;
- `transfer` has images made against other networks;
- `pgd` is the paper's attack.

One attack beats another if it leaves fewer images correct, by more than chance: McNemar's test on
the same images has p < ALPHA. One image of 200 is never enough.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irpipe.analysis.paired import difference, require_correct, require_same_images
from irpipe.results.accuracy import eps_step_indices
from irpipe.results.labels import EPS_TOLERANCE, eps_label
from irpipe.results.result import Result
from irpipe.statistics import wilson

ALPHA = 0.05  # level of all tests and intervals in the reports, for each flag separately
# A gradient entry below float32's resolution at 1 is as good as 0: a probability that is closer
# than this to 1 rounds to 1.
VANISHED_BELOW = 2.0**-23
# Share of images whose gradient may vanish, because an attack may miss these images. Even twice
# as many are only the gap of 0.10 in accuracy that the paper calls comparable
# (`claims.COMPARABLE_GAP`), so a smaller share cannot reverse that claim.
MAX_VANISHED_SHARE = 0.05

ONE_STEP = "one-step beats many-step"
BLACK_BOX = "black-box beats white-box"
TRANSFER = "transfer beats white-box"
FLAT_IN_EPS = "accuracy does not fall with eps"
VANISHING_GRADIENTS = "vanishing gradients"
WEAK_LAST_ITERATE = "last iterate weaker than worst"
SHORT_STEPS = "steps times step size below eps"
FLAG_NAMES = (
    ONE_STEP,
    BLACK_BOX,
    TRANSFER,
    FLAT_IN_EPS,
    VANISHING_GRADIENTS,
    WEAK_LAST_ITERATE,
    SHORT_STEPS,
)


class MaskingFlag(NamedTuple):
    """One flag, and whether `is_raised` by its two numbers, `value` and `against`.

    `numbers` says the same in words. A raised flag tells against the network, if
    `is_about_network`, else against the attack.
    """

    name: str
    is_raised: bool
    value: float
    against: float
    numbers: str
    is_about_network: bool = True


def masking_flags(group: Sequence[Result], report: str) -> list[MaskingFlag]:
    """The flags that can be computed from the results of one network, raised or not.

    Raises IrpipeError, which names `report`, if a result lacks the data set's eps or has other
    images.
    """
    by_role: dict[str, list[Result]] = {}
    for result in sorted(group, key=lambda result: str(result.attrs["attack"])):
        by_role.setdefault(_role(result), []).append(result)
    flags: list[MaskingFlag] = []
    if "margin_pgd" in by_role:
        margin_pgd = by_role["margin_pgd"]
        for role in ("margin_pgd", "autoattack", "square", "transfer"):
            for result in by_role.get(role, ()):
                require_same_images(result, margin_pgd[0], report)
        correct = _correct(margin_pgd, report)
        flags += [
            _one_step(margin_pgd, correct, report),
            _flat_in_eps(margin_pgd, report),
            _vanishing_gradients(margin_pgd),
            _weak_last_iterate(margin_pgd, correct),
        ]
        white_box_correct = _white_box_correct(by_role, report)
        for role, name in {"square": BLACK_BOX, "transfer": TRANSFER}.items():
            if role in by_role:
                rival_correct = _correct(by_role[role], report)
                flags.append(_rival_attack(name, rival_correct, white_box_correct))
    if "pgd" in by_role:
        flags.append(_steps_too_short(by_role["pgd"]))
    return flags


def summarise(flags: Sequence[MaskingFlag]) -> str:
    """One line: how many signs were looked for, which flags are raised, which had no result."""
    about_network = [flag.name for flag in flags if flag.is_raised and flag.is_about_network]
    about_attack = [flag.name for flag in flags if flag.is_raised and not flag.is_about_network]
    computed = {flag.name for flag in flags}
    missing = [name for name in FLAG_NAMES if name not in computed]
    parts = [f"{len(computed)} of {len(FLAG_NAMES)} signs of masking looked for"]
    if about_network:
        parts.append(f"masking suspected: {', '.join(about_network)}")
    if about_attack:
        parts.append(f"attack too weak: {', '.join(about_attack)}")
    if not (about_network or about_attack):
        parts.append("none found")
    if missing:
        parts.append(f"not looked for: {', '.join(missing)}")
    return "; ".join(parts)


def _role(result: Result) -> str:
    """The kind of a result's attack, but "square" for AutoAttack with Square alone."""
    kind = str(result.attrs["kind"])
    is_square = kind == "autoattack" and result.attrs["options"]["attacks_to_run"] == ["square"]
    return "square" if is_square else kind


def _correct(
    results: Sequence[Result], report: str, steps: int | None = None, eps: float | None = None
) -> np.ndarray:
    """Whether each image is classified correctly under all of the results, bool `[N]`.

    None means the largest step count of each, and the data set's eps.
    """
    correct: np.ndarray = np.logical_and.reduce(
        [
            require_correct(
                result,
                result.attrs["train_eps"] if eps is None else eps,
                _most_steps(result) if steps is None else steps,
                report,
            )
            for result in results
        ]
    )
    return correct


def _most_steps(result: Result) -> int:
    return int(result.arrays["steps"].max())


def _beats(correct: np.ndarray, other_correct: np.ndarray) -> bool:
    """Whether the first attack leaves fewer images correct than the other, by more than chance."""
    gap = difference(correct, other_correct)
    return gap.value < 0 and gap.p < ALPHA


def _one_step(margin_pgd: Sequence[Result], correct: np.ndarray, report: str) -> MaskingFlag:
    """More steps of the same attack can only do better, unless its gradients mislead it."""
    fewest = min(int(result.arrays["steps"].min()) for result in margin_pgd)
    with_fewest = [result for result in margin_pgd if fewest in result.arrays["steps"]]
    few_correct = _correct(with_fewest, report, steps=fewest)
    few_accuracy = float(few_correct.mean())
    accuracy = float(correct.mean())
    numbers = (
        f"accuracy {few_accuracy:.3f} under {fewest}, "
        f"{accuracy:.3f} under {max(map(_most_steps, margin_pgd))}"
    )
    return MaskingFlag(ONE_STEP, _beats(few_correct, correct), few_accuracy, accuracy, numbers)


def _white_box_correct(by_role: dict[str, list[Result]], report: str) -> np.ndarray:
    """Whether each image is correct after all attacks that follow gradients, bool `[N]`.

    These are `margin_pgd` and AutoAttack. An image that only AutoAttack's Square got misclassified
    still counts as correct.
    """
    correct = _correct(by_role["margin_pgd"], report)
    for autoattack in by_role.get("autoattack", ()):
        names = [*autoattack.attrs["options"]["attacks_to_run"], "square"]
        square = names.index("square") + 1  # `broken_by` counts from 1
        is_broken_by_square = _at_train_eps(autoattack, "broken_by") == square
        correct &= _correct([autoattack], report) | is_broken_by_square
    return correct


def _rival_attack(name: str, correct: np.ndarray, white_box_correct: np.ndarray) -> MaskingFlag:
    """An attack that knows less than the white box should not do better."""
    accuracy = float(correct.mean())
    white_box_accuracy = float(white_box_correct.mean())
    numbers = f"accuracy {accuracy:.3f} against {white_box_accuracy:.3f}"
    is_raised = _beats(correct, white_box_correct)
    return MaskingFlag(name, is_raised, accuracy, white_box_accuracy, numbers)


def _flat_in_eps(margin_pgd: Sequence[Result], report: str) -> MaskingFlag:
    """Accuracy should fall from one eps to the next, since the smaller ball lies in the larger one.

    The flag is raised if it rises anywhere by more than chance, or does not fall in total. Only if
    it is not above chance level at the smallest eps, there is nothing to lose in total.
    """
    eps_values = _common_eps(margin_pgd)
    correct = [_correct(margin_pgd, report, eps=eps) for eps in eps_values]
    accuracies = [float(is_correct.mean()) for is_correct in correct]
    rises = any(_beats(smaller, larger) for smaller, larger in itertools.pairwise(correct))
    is_flat = len(accuracies) > 1 and accuracies[-1] >= accuracies[0]
    numbers = ", ".join(
        f"{accuracy:.3f} at {eps_label(eps)}"
        for eps, accuracy in zip(eps_values, accuracies, strict=True)
    )
    lowest, _ = wilson(int(correct[0].sum()), len(correct[0]))
    if lowest <= 1 / len(margin_pgd[0].attrs["class_names"]):
        is_flat = False
        numbers += "; nothing to lose"
    return MaskingFlag(FLAT_IN_EPS, rises or is_flat, accuracies[-1], accuracies[0], numbers)


def _common_eps(results: Sequence[Result]) -> list[float]:
    """The eps that all results have, in rising order."""
    first, *others = (np.asarray(result.arrays["eps"], dtype=float) for result in results)
    return sorted(
        float(eps)
        for eps in first
        if all(bool((np.abs(other - eps) <= EPS_TOLERANCE).any()) for other in others)
    )


def _vanishing_gradients(margin_pgd: Sequence[Result]) -> MaskingFlag:
    """The cross-entropy should have a gradient that float32 can represent at most clean images.

    A gradient with NaN gives an attack no direction, so it counts as vanished.
    """
    grad_linf = np.minimum.reduce([_at_train_eps(result, "grad_linf") for result in margin_pgd])
    zero = float((grad_linf == 0).mean())
    vanished = float((~(grad_linf >= VANISHED_BELOW)).mean())
    numbers = f"zero for {zero:.1%} of images, below {VANISHED_BELOW:.0e} for {vanished:.1%}"
    is_raised = vanished > MAX_VANISHED_SHARE
    return MaskingFlag(VANISHING_GRADIENTS, is_raised, vanished, MAX_VANISHED_SHARE, numbers)


def _weak_last_iterate(margin_pgd: Sequence[Result], correct: np.ndarray) -> MaskingFlag:
    """If the worst iterate does better, attacks by last iterates, as the paper's, are too weak."""
    last_correct = np.logical_and.reduce(
        [_at_train_eps(result, "last_is_correct").astype(bool) for result in margin_pgd]
    )
    last_accuracy = float(last_correct.mean())
    accuracy = float(correct.mean())
    numbers = (
        f"accuracy {last_accuracy:.3f} by the last iterate of one start, "
        f"{accuracy:.3f} by the worst of all"
    )
    return MaskingFlag(
        WEAK_LAST_ITERATE,
        _beats(correct, last_correct),
        last_accuracy,
        accuracy,
        numbers,
        is_about_network=False,
    )


def _steps_too_short(pgd: Sequence[Result]) -> MaskingFlag:
    """PGD from the clean image needs steps * step_size >= eps to cross the ball (C.4 P2)."""
    train_eps = pgd[0].attrs["train_eps"]
    is_raised = False
    texts = []
    for result in pgd:
        options = result.attrs["options"]
        step_size = options["step_size"]
        counts = [int(count) for count in result.arrays["steps"]]
        too_few = [count for count in counts if count * step_size < train_eps - EPS_TOLERANCE]
        # With a step_size_factor the step size grows with eps, and `step_size` does not count.
        is_raised |= bool(too_few) and options["step_size_factor"] is None
        label = " and ".join(str(count) for count in too_few) or "no"
        texts.append(f"{label} steps of {step_size:g} stay short of {eps_label(train_eps)}")
    reach = min(
        int(result.arrays["steps"].min()) * result.attrs["options"]["step_size"] for result in pgd
    )
    numbers = "; ".join(texts)
    return MaskingFlag(SHORT_STEPS, is_raised, reach, train_eps, numbers, is_about_network=False)


def _at_train_eps(result: Result, array: str) -> np.ndarray:
    """An array `[N]` at the data set's eps and the most steps, which `_correct` has required."""
    indices = eps_step_indices(result, result.attrs["train_eps"], _most_steps(result))
    assert indices is not None
    values: np.ndarray = result.arrays[array][:, *indices]
    return values
