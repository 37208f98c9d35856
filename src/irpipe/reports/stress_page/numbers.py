"""The numbers of a page of `irpipe stress`, all from the results of one network."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from irpipe.analysis.gradient_masking import FLAG_NAMES, MaskingFlag, masking_flags
from irpipe.analysis.roles import at_most_steps, most_steps
from irpipe.errors import IrpipeError
from irpipe.results.accuracy import Accuracy, accuracy, accuracy_of, is_certified
from irpipe.results.labels import EPS_TOLERANCE, bound_label, eps_norm
from irpipe.results.rank_correlation import RankCorrelation, rank_correlation
from irpipe.results.result import Result


class StressNumbers(NamedTuple):
    """The numbers that the verdict is made of.

    - `eps`: the eps of the verdict (`verdict_eps`).
    - `counted`: the results on the same images that have this eps.
    - `clean`: accuracy at eps = 0, of the attack `clean_attack`; None means not measured.
    - `worst`: accuracy under all attacks of `counted` together; None means there is none.
    - `is_proven`: whether every image that these attacks left has a proof.
    - `flags`: the signs of masking that were looked for, raised or not; `n_signs` that exist.
    - `no_flags_reason`: why none was looked for, or "".
    - `tau`: the smallest mean tau of an attack on maps, lost images counted as 0, and that result.
    """

    eps: float
    counted: Sequence[Result]
    clean: Accuracy | None
    clean_attack: str
    worst: Accuracy | None
    is_proven: bool
    flags: Sequence[MaskingFlag]
    n_signs: int
    no_flags_reason: str
    tau: tuple[Result, RankCorrelation] | None

    @property
    def norm(self) -> str:
        """The norm in which eps is a bound: "linf", "l2" or "l1"."""
        return eps_norm(self.counted[0])

    @property
    def bound(self) -> str:
        """The eps of the verdict as people read it."""
        return bound_label(self.eps, self.norm)

    @property
    def chance(self) -> float:
        """The accuracy of guessing, if all classes are equally frequent."""
        return 1 / len(self.counted[0].attrs["class_names"])


def stress_numbers(results: Sequence[Result]) -> StressNumbers | None:
    """The numbers of one network's results; None if no result has accuracies within an eps."""
    bounded = [result for result in results if is_bounded(result)]
    if not bounded:
        return None
    bounded = [result for result in bounded if eps_norm(result) == eps_norm(bounded[0])]
    eps = verdict_eps(bounded)
    counted = _on_same_images([result for result in bounded if accuracy_at(result, eps)])
    flags: list[MaskingFlag] = []
    reason = ""
    try:
        flags = masking_flags(counted, "page", eps)
    except IrpipeError as error:
        reason = str(error).removeprefix("page: ")
    cleans = [
        (measured, str(result.attrs["attack"]))
        for result in counted
        if (measured := accuracy_at(result, 0.0))
    ]
    clean, clean_attack = cleans[0] if cleans else (None, "")
    is_correct = np.logical_and.reduce([correct_at(result, eps) for result in counted])
    return StressNumbers(
        eps=eps,
        counted=counted,
        clean=clean,
        clean_attack=clean_attack,
        worst=accuracy_of(is_correct),
        is_proven=not (is_correct & ~_has_proof(counted, eps)).any(),
        flags=flags,
        n_signs=len(FLAG_NAMES),
        no_flags_reason=reason,
        tau=_smallest_tau(counted, eps),
    )


def is_bounded(result: Result) -> bool:
    """Whether a result has accuracies by eps and step count, with eps the bound of its images.

    An l2 or l1 bound is one on the l-inf distance, too.
    """
    arrays = result.arrays
    if not {"eps", "steps"} <= arrays.keys():
        return False
    excess = arrays["linf_distance"] - arrays["eps"][None, :, None]
    return bool((excess <= EPS_TOLERANCE + 1e-6).all())


def verdict_eps(results: Sequence[Result]) -> float:
    """The data set's l-inf bound if a result has it, else the largest eps of all."""
    if any(_has_train_eps(result) for result in results):
        return float(results[0].attrs["train_eps"])
    return max(float(result.arrays["eps"].max()) for result in results)


def _has_train_eps(result: Result) -> bool:
    if eps_norm(result) != "linf":
        return False
    eps = result.arrays.get("eps", np.empty(0))
    return bool((np.abs(eps - result.attrs["train_eps"]) <= EPS_TOLERANCE).any())


def accuracy_at(result: Result, eps: float) -> Accuracy | None:
    """Accuracy at an eps, after the most steps; None means not evaluated there."""
    return accuracy(result, eps, most_steps(result))


def accuracies(result: Result) -> list[tuple[float, Accuracy]]:
    """Each eps of a result with its accuracy after the most steps, by rising eps."""
    pairs = [(float(eps), accuracy_at(result, float(eps))) for eps in result.arrays["eps"]]
    return sorted((eps, measured) for eps, measured in pairs if measured)


def tau_at(result: Result, eps: float) -> RankCorrelation | None:
    """Mean tau at an eps, after the most steps; None if the attack is not on maps."""
    if "kendall_tau" not in result.arrays:
        return None
    return rank_correlation(result, eps, most_steps(result))


def correct_at(result: Result, eps: float) -> np.ndarray:
    """Whether each image is correct at an eps after every step count, bool `[N]`."""
    index = int(np.abs(result.arrays["eps"] - eps).argmin())
    is_correct: np.ndarray = np.logical_and.reduce(result.arrays["correct"][:, index], axis=1)
    return is_correct.astype(bool)


def _has_proof(results: Sequence[Result], eps: float) -> np.ndarray:
    """Whether a search for proofs, or an attack that skips what bounds certify, has one, `[N]`."""
    has_proof = np.zeros(len(results[0].arrays["indices"]), dtype=bool)
    for result in results:
        if result.attrs["kind"] == "certify":
            found = is_certified(result, eps)
        elif "is_certified" in result.arrays:
            found = at_most_steps(result, "is_certified", eps).astype(bool)
        else:
            continue
        assert found is not None  # all of them have this eps
        has_proof |= found
    return has_proof


def _on_same_images(results: Sequence[Result]) -> list[Result]:
    """The largest group of results that are of the same images."""
    groups: dict[bytes, list[Result]] = {}
    for result in results:
        groups.setdefault(result.arrays["indices"].tobytes(), []).append(result)
    return max(groups.values(), key=len)


def _smallest_tau(results: Sequence[Result], eps: float) -> tuple[Result, RankCorrelation] | None:
    """The attack on maps that leaves the smallest mean tau, lost images counted as 0."""
    pairs = [(result, tau) for result in results if (tau := tau_at(result, eps))]
    return min(pairs, key=lambda pair: pair[1].value_all, default=None)
