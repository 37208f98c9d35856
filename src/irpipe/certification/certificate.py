"""What is stored of a proof, so that other code can check it."""

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from irpipe.errors import IrpipeError

# A margin must be bounded by more than this to count as proven. The network's evaluation in
# float32 lies within 1e-5 of that in real arithmetic, which the proof is about.
MIN_MARGIN = 1e-3
# The ball that is certified is larger by this than the one that was asked for, because the
# evaluator accepts images that lie so much beyond (`evaluation.checks`).
EPS_MARGIN = 1e-6
# Layer 2's alphas are stored in multiples of 1 / ALPHA_LEVELS.
ALPHA_LEVELS = 255
# The weights of maxima are stored in multiples of 1 / WEIGHT_LEVELS.
WEIGHT_LEVELS = 255


@dataclass(frozen=True)
class TargetProof:
    """The duals that bound one margin f_label - f_target (docs/certify.md), and N leaves.

    - `target`: the other class, `[]` int64;
    - `gamma`: lower slopes of layer 1 for the rest, `[c1, h, w]` in [0, 1];
    - `place`: the place of each leaf, `[N]`;
    - `sign1`, `sign2`: 1 where a leaf has z >= 0, -1 where z <= 0, else 0, `[N, a]`, `[N, c2]`;
    - `dual1`, `dual2`: beta >= 0 where a leaf has a sign, else alpha in [0, 1];
    - `E`, `D`: the multipliers `[P, a]` and `[P, q]`. If they are empty, E_p is W2' Az2, D is 0
      and there is one leaf for each place: alpha-CROWN.
    """

    target: np.ndarray
    gamma: np.ndarray
    place: np.ndarray
    sign1: np.ndarray
    sign2: np.ndarray
    dual1: np.ndarray
    dual2: np.ndarray
    E: np.ndarray
    D: np.ndarray


@dataclass(frozen=True)
class PoolTargetProof:
    """The weights that bound one margin of Pool from below (docs/certify.md).

    - `target`: the other class, `[]` int64;
    - `lambda1`: weights of the four functions of each place of layer 1, `[c1, U, 4]`;
    - `lambda2`: those of layer 2, `[P, c2, 4]`.

    Both are uint8, in multiples of 1 / WEIGHT_LEVELS. Sums of four are at most 1 in `lambda1`,
    where the rest is the weight of 0, and 1 in `lambda2`.
    """

    target: np.ndarray
    lambda1: np.ndarray
    lambda2: np.ndarray


@dataclass(frozen=True)
class Certificate(ABC):
    """A proof that no image within `eps` of a clean one is misclassified.

    `label` is the clean image's class. `proofs` has one entry for each other class.

    Every dual within its limits gives a sound bound. So rounding the duals costs tightness only,
    and `recheck.CertificateChecker` tells what the stored ones are worth.
    """

    label: int
    eps: float
    proofs: tuple[Any, ...]

    @property
    @abstractmethod
    def n_leaves(self) -> int:
        """The number of leaves of all trees."""

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the certificate as arrays by name."""
        arrays = {
            "label": np.array(self.label),
            "eps": np.array(self.eps),
            "n_proofs": np.array(len(self.proofs)),
        }
        arrays |= {name: getattr(self, name) for name in _array_names(type(self))}
        for number, proof in enumerate(self.proofs):
            for name in _names(proof):
                arrays[f"proof{number}_{name}"] = getattr(proof, name)
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Certificate":
        """Return the certificate with these arrays; raise IrpipeError if one is missing."""
        is_pool = "mu1" in arrays
        kind = PoolCertificate if is_pool else SmallCertificate
        names = _names(PoolTargetProof if is_pool else TargetProof)
        try:
            proofs: list[Any] = []
            for number in range(int(arrays["n_proofs"])):
                values = [arrays[f"proof{number}_{name}"] for name in names]
                proofs.append(PoolTargetProof(*values) if is_pool else TargetProof(*values))
            own = {name: arrays[name] for name in _array_names(kind)}
            return kind(int(arrays["label"]), float(arrays["eps"]), tuple(proofs), **own)
        except KeyError as error:
            raise IrpipeError(f"certificate: has no array {error}") from error

    def to_bytes(self) -> bytes:
        """Return the certificate as a compressed npz file."""
        file = io.BytesIO()
        np.savez_compressed(file, **self.to_arrays())  # type: ignore[arg-type]
        return file.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> "Certificate":
        """Return the certificate of `to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return Certificate.from_arrays(dict(arrays))


@dataclass(frozen=True)
class SmallCertificate(Certificate):
    """The certificate of an image for a network of the architecture Small.

    Layer 2 is bounded by CROWN, and for R of its bounds with alphas that are stored: row i bounds
    z2 (from above where `is_upper`) at a `place` and a `channel`, and `alpha` `[R, a]` has its
    lower slopes in multiples of 1 / ALPHA_LEVELS, uint8.
    """

    proofs: tuple[TargetProof, ...]
    place: np.ndarray
    channel: np.ndarray
    is_upper: np.ndarray
    alpha: np.ndarray

    @property
    def n_leaves(self) -> int:
        """The number of leaves of all trees."""
        return sum(len(proof.place) for proof in self.proofs)


@dataclass(frozen=True)
class PoolCertificate(Certificate):
    """The certificate of an image for a network of the architecture Pool.

    - `mu1`, `mu2`: the weights of the bounds above the maxima of layer 1, `[c1, U, 4]`, and of
      layer 2, `[P, c2, 4]`, float16; any finite values are sound;
    - `lambda1`: weights below the maxima of layer 1 for the bounds of layer 2, `[c1, U, 4]`, as
      in `PoolTargetProof`.
    """

    proofs: tuple[PoolTargetProof, ...]
    mu1: np.ndarray
    mu2: np.ndarray
    lambda1: np.ndarray

    @property
    def n_leaves(self) -> int:
        """0, since there are no trees."""
        return 0


def _array_names(kind: type[Certificate]) -> list[str]:
    """The arrays that one kind of certificates has beside those of its proofs."""
    return [name for name in _names(kind) if name not in _names(Certificate)]


def _names(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]
