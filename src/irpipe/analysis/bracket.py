"""The bracket: what is certified of a network's accuracy, and what attacks have left of it.

At one eps, an image is
- certified if there is a proof that no image within eps is misclassified,
- broken if an attack, or the search for a proof, found a misclassified image within eps,
- undecided else.
On these images, the accuracy under the strongest attack that can exist lies between the share of
certified images and the share of images that are not broken.
"""

from typing import NamedTuple

import numpy as np

from irpipe.analysis.cross_check import cross_check
from irpipe.analysis.paired import leaves_fewer, require_correct, require_same_images
from irpipe.errors import IrpipeError
from irpipe.results.accuracy import Accuracy, accuracy_of, is_certified, is_correct
from irpipe.results.labels import eps_label, result_name
from irpipe.results.result import Result

# Share of images that an attack may miss. Even twice as many are only the gap of 0.10 in accuracy
# that the paper calls comparable (`claims.COMPARABLE_GAP`), so a smaller share cannot reverse that
# claim.
MAX_MISSED_SHARE = 0.05


class Bracket(NamedTuple):
    """Shares of the same images. `attacked`, the share of unbroken ones, is the others' sum."""

    certified: Accuracy
    undecided: Accuracy
    attacked: Accuracy


def bracket(
    attacked: Result, proofs: Result, eps: float, steps: int, report: str
) -> Bracket | None:
    """The bracket at one eps: by an attack of some step count, and by a result of kind `certify`.

    Both may be the same result. None means that `proofs` was not evaluated at this eps.

    Raises IrpipeError, which names `report`, if the attack was not evaluated there, and as
    `certified_images` does.
    """
    after_search = is_correct(proofs, eps, int(proofs.arrays["steps"][0]))
    if after_search is None:
        return None
    correct = require_correct(attacked, eps, steps, report) & after_search
    certified = certified_images(proofs, attacked, eps, report)
    return Bracket(*map(accuracy_of, (certified, correct & ~certified, correct)))


def certified_images(proofs: Result, attacked: Result, eps: float, report: str) -> np.ndarray:
    """Whether each image is certified at an eps, bool `[N]`; `proofs` is of kind `certify`.

    Raises IrpipeError, which names `report`, if `proofs` was not evaluated at this eps, and if the
    two results are of other networks or images. Raises as `cross_check` does, if `attacked` broke
    what is certified.
    """
    first, second = result_name(proofs), result_name(attacked)
    if proofs.attrs["network_sha256"] != attacked.attrs["network_sha256"]:
        raise IrpipeError(
            f"{report}: {first} and {second} are of other weights; evaluate both on the same"
        )
    require_same_images(proofs, attacked, report)
    certified = is_certified(proofs, eps)
    if certified is None:
        raise IrpipeError(f"{report}: {first} lacks ε = {eps_label(eps)}; evaluate it with that")
    cross_check([proofs, attacked])
    return certified


def proofs_meet(certified: np.ndarray, correct: np.ndarray) -> bool:
    """Whether an attack left hardly an image correct that is not certified, bool `[N]` each.

    Of n images, let it leave u that are not certified. The two meet if u is at most
    MAX_MISSED_SHARE of n and no more than chance: McNemar's p = 2^(1 - u) is at least ALPHA up to
    u = 5. Such an attack has missed at most u images, so gradients cannot hide more from it.
    """
    undecided_share = float((correct & ~certified).mean())
    return undecided_share <= MAX_MISSED_SHARE and not leaves_fewer(certified, correct)
