"""Results of one network by the role of their attack, and what they leave together.

- `margin_pgd` is the white box, together with those parts of AutoAttack that follow gradients;
- `square`, that is `autoattack` with Square alone, is the black box;
- `transfer` has images made against other networks;
- `pgd` is the paper's attack;
- `certify` has proofs.

Several results of one role count together: an image is correct if it is under all of them.
"""

from collections.abc import Sequence

import numpy as np

from irpipe.analysis.paired import require_correct
from irpipe.errors import IrpipeError
from irpipe.results.accuracy import eps_step_indices
from irpipe.results.labels import EPS_TOLERANCE, eps_norm
from irpipe.results.result import Result

Roles = dict[str, list[Result]]


def roles(group: Sequence[Result]) -> Roles:
    """The results by role; within a role by the name of the attack."""
    by_role: Roles = {}
    for result in sorted(group, key=lambda result: str(result.attrs["attack"])):
        by_role.setdefault(_role(result), []).append(result)
    return by_role


def _role(result: Result) -> str:
    """The kind of a result's attack, but "square" for AutoAttack with Square alone."""
    kind = str(result.attrs["kind"])
    is_square = kind == "autoattack" and result.attrs["options"]["attacks_to_run"] == ["square"]
    return "square" if is_square else kind


def correct_under(
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
                most_steps(result) if steps is None else steps,
                report,
            )
            for result in results
        ]
    )
    return correct


def white_box_correct(by_role: Roles, report: str, eps: float | None = None) -> np.ndarray:
    """Whether each image is correct after all attacks that follow gradients, bool `[N]`.

    These are `margin_pgd` and AutoAttack. An image that only AutoAttack's Square got misclassified
    still counts as correct. None means the data set's eps.
    """
    correct = correct_under(by_role["margin_pgd"], report, eps=eps)
    for autoattack in by_role.get("autoattack", ()):
        names = [*autoattack.attrs["options"]["attacks_to_run"], "square"]
        square = names.index("square") + 1  # `broken_by` counts from 1
        is_broken_by_square = at_most_steps(autoattack, "broken_by", eps) == square
        correct &= correct_under([autoattack], report, eps=eps) | is_broken_by_square
    return correct


def most_steps(result: Result) -> int:
    """The largest step count of a result."""
    return int(result.arrays["steps"].max())


def at_most_steps(result: Result, array: str, eps: float | None = None) -> np.ndarray:
    """An array `[N]` at one eps and the most steps, which `correct_under` has required."""
    eps = result.attrs["train_eps"] if eps is None else eps
    indices = eps_step_indices(result, eps, most_steps(result))
    assert indices is not None
    values: np.ndarray = result.arrays[array][:, *indices]
    return values


def common_eps(results: Sequence[Result]) -> list[float]:
    """The eps that all results have, in rising order."""
    first, *others = (np.asarray(result.arrays["eps"], dtype=float) for result in results)
    return sorted(
        float(eps)
        for eps in first
        if all(bool((np.abs(other - eps) <= EPS_TOLERANCE).any()) for other in others)
    )


def flags_eps(group: Sequence[Result], report: str) -> float:
    """The data set's eps; if the results bound another norm, the largest eps that all have.

    Raises IrpipeError, which names `report`, if the results bound different norms.
    """
    found = sorted({eps_norm(result) for result in group})
    if len(found) > 1:
        raise IrpipeError(
            f"{report}: eps bounds the {' and the '.join(found)} norm; take results of one norm"
        )
    if found == ["linf"]:
        return float(group[0].attrs["train_eps"])
    return max(common_eps([result for result in group if "eps" in result.arrays]))
