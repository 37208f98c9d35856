"""What no attack can change about a claim: between which differences it lies."""

from collections.abc import Sequence

import numpy as np

from irpipe.analysis.bracket import certified_images
from irpipe.analysis.claims import Claim, ClaimBracket, decide, lowest_scores
from irpipe.analysis.paired import require_same_images
from irpipe.published import METHODS
from irpipe.results.result import Result
from irpipe.statistics import bootstrap


def bracket_claim(
    claim: Claim, first: Sequence[Result], second: Sequence[Result], report: str
) -> ClaimBracket | None:
    """The bracket of a claim on accuracy, from all results of its first and second network.

    At the data set's eps, the accuracy of a network under the strongest attack that can exist lies
    between its certified share, which is 0 without proofs, and the share that is left by all of its
    attacks together. So the difference lies between `low`, the first one's certified share minus
    what attacks left of the second one, and `high`, the other way round. The verdict is proven if
    the claim's rule gives the same one at both ends.

    None means that neither network has proofs or that the claim is not on accuracies. Raises
    IrpipeError, which names `report`, if two results are of other images or lack the data set's
    eps, and as `certified_images` does.
    """
    first, second = _on_accuracy(first), _on_accuracy(second)
    has_proofs = any(result.attrs["kind"] == "certify" for result in (*first, *second))
    if claim.second is None or claim.interpreter or not has_proofs:
        return None
    for result in (*first, *second):
        require_same_images(first[0], result, report)
    first_certified, first_attacked = _ends(first, report)
    second_certified, second_attacked = _ends(second, report)
    worst, best = first_certified - second_attacked, first_attacked - second_certified
    verdicts = [
        decide(claim, float(differences.mean()), bootstrap(differences)[0], len(differences))
        for differences in (worst, best)
    ]
    low, high = float(worst.mean()), float(best.mean())
    is_proven = verdicts[0] == verdicts[1]
    verdict = f"proven: {verdicts[0]}" if is_proven else f"open: {verdicts[0]} to {verdicts[1]}"
    first_range = f"[{first_certified.mean():.3f}, {first_attacked.mean():.3f}]"
    second_range = f"[{second_certified.mean():.3f}, {second_attacked.mean():.3f}]"
    text = (
        f"{_method(first)} lies in {first_range}, {_method(second)} in {second_range}, "
        f"the difference in [{low:+z.3f}, {high:+z.3f}]"
    )
    return ClaimBracket(low, high, verdict, text, [*first, *second])


def _on_accuracy(group: Sequence[Result]) -> list[Result]:
    return [result for result in group if "kendall_tau" not in result.arrays]


def _ends(group: Sequence[Result], report: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is certified, and whether all attacks left it correct: 0 or 1, `[N]`."""
    attacked = np.min([lowest_scores(result, report) for result in group], axis=0)
    certified = np.zeros(len(attacked))
    for proofs in group:
        if proofs.attrs["kind"] == "certify":
            eps = proofs.attrs["train_eps"]
            for result in group:
                found = certified_images(proofs, result, eps, report)
            certified = np.maximum(certified, found)
    return certified, attacked


def _method(group: Sequence[Result]) -> str:
    method = str(group[0].attrs["method"])
    return METHODS.get(method, method)
