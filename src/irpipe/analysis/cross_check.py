"""Check proofs and attacks against each other: nothing may break an image that is certified."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from irpipe.certification.certificate import EPS_MARGIN
from irpipe.certification.status import Status
from irpipe.errors import IrpipeError
from irpipe.results.labels import eps_label, result_name
from irpipe.results.result import Result, require_parts

# What a result must have to be compared.
ATTRS = ("dataset", "model", "method", "run", "attack", "kind", "network_sha256", "data_sha256")
ARRAYS = ("indices", "linf_distance", "correct")


@dataclass(frozen=True)
class Comparison:
    """The certificates of one result next to the adversarial images of another.

    `proof` and `attack` are the attributes of the two. `n_certified` counts the images that are
    certified at any eps, and `n_within` the adversarial images within a certified eps, over all
    points and step counts.
    """

    proof: dict[str, Any]
    attack: dict[str, Any]
    n_certified: int
    n_within: int


@dataclass(frozen=True)
class _Images:
    """What a result says of the images with these `indices` `[N]`.

    - `certified_eps`: the largest certified eps, `[N]`; -1 if there is none;
    - `distance`, `is_broken`: of each adversarial image, `[N, E, S]`;
    - `eps`: that of the attack, `[E]`; None if it has none.
    """

    attrs: dict[str, Any]
    location: str
    indices: np.ndarray
    certified_eps: np.ndarray
    distance: np.ndarray
    is_broken: np.ndarray
    eps: np.ndarray | None

    @property
    def key(self) -> tuple[str, str]:
        """What results of the same network and test set have in common."""
        return self.attrs["network_sha256"], self.attrs["data_sha256"]


def cross_check(results: Iterable[Result]) -> list[Comparison]:
    """Compare each result of kind `certify` with all results of its network, itself included.

    An adversarial image counts by its measured l-inf distance, whatever bounds its attack.
    `results` may load them one by one. Raises IrpipeError, which names the first one, if an image
    is certified at some eps and misclassified within it, and for what is not the result of an
    attack.
    """
    images_of = [_images(result) for result in results]
    return [
        _compare(proof, attack)
        for proof in images_of
        if proof.attrs["kind"] == "certify"
        for attack in images_of
        if attack.key == proof.key
    ]


def _images(result: Result) -> _Images:
    arrays = result.arrays
    require_parts(result, str(result.path), ATTRS, ARRAYS)
    certified_eps = np.full(len(arrays["indices"]), -1.0)
    if result.attrs["kind"] == "certify":
        is_certified = (arrays["status"] == Status.CERTIFIED).any(axis=2)
        certified_eps = np.where(is_certified, arrays["eps"], -1.0).max(axis=1)
    return _Images(
        attrs=result.attrs,
        location=str(result.path or result_name(result)),
        indices=arrays["indices"],
        certified_eps=certified_eps,
        distance=arrays["linf_distance"],
        is_broken=~arrays["correct"],
        eps=arrays.get("eps"),
    )


def _compare(proof: _Images, attack: _Images) -> Comparison:
    _, of_proof, of_attack = np.intersect1d(proof.indices, attack.indices, return_indices=True)
    is_certified = proof.certified_eps[of_proof] >= 0
    of_proof, of_attack = of_proof[is_certified], of_attack[is_certified]
    eps = proof.certified_eps[of_proof]
    is_within = attack.distance[of_attack] <= (eps + EPS_MARGIN)[:, None, None]
    is_contradiction = is_within & attack.is_broken[of_attack]
    if is_contradiction.any():
        number, point, position = np.argwhere(is_contradiction)[0]
        raise IrpipeError(
            _contradiction(proof, attack, of_proof[number], (of_attack[number], point, position))
        )
    n_certified = int((proof.certified_eps >= 0).sum())
    return Comparison(proof.attrs, attack.attrs, n_certified, int(is_within.sum()))


def _contradiction(
    proof: _Images, attack: _Images, image: int, adversarial: tuple[int, int, int]
) -> str:
    """Return the message for row `image` of the proof and the index `adversarial` of the attack."""
    network = "/".join(proof.attrs[key] for key in ("dataset", "model", "method", "run"))
    at_eps = "" if attack.eps is None else f" at eps {eps_label(attack.eps[adversarial[1]])}"
    return (
        f"{network}, image {proof.indices[image]}: "
        f"{proof.location} certifies it at eps {eps_label(proof.certified_eps[image])}, but "
        f"{attack.location} misclassifies it{at_eps}, at an l-inf distance of "
        f"{attack.distance[adversarial]:.6g}; one of the two is wrong"
    )
