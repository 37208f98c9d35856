"""Turn the duals that a search found into the arrays of a certificate."""

import numpy as np
import torch
from torch import Tensor

from irpipe.certification.certificate import Certificate, TargetProof
from irpipe.certification.decomposition import Decomposition
from irpipe.certification.layer2_bounds import OptimisedRows

MAX_FLOAT16 = 65504.0


def root_proof(target: int, alpha1: Tensor, alpha2: Tensor, n_entries: int) -> TargetProof:
    """Return the proof by alpha-CROWN, with `alpha1` `[c1, h, w]` and `alpha2` `[P, c2]`.

    `n_entries` is the number of entries of a patch of layer 1.
    """
    n_places = len(alpha2)
    none = np.empty((0, 0), dtype=np.float32)
    return TargetProof(
        target=np.array(target),
        gamma=_half(alpha1),
        place=np.arange(n_places, dtype=np.int32),
        sign1=np.zeros((n_places, n_entries), dtype=np.int8),
        sign2=np.zeros(alpha2.shape, dtype=np.int8),
        dual1=np.zeros((n_places, n_entries), dtype=np.float16),
        dual2=_half(alpha2),
        E=none,
        D=none,
    )


def tree_proof(target: int, decomposition: Decomposition) -> TargetProof:
    """Return the proof by the trees of a decomposition."""
    leaves = decomposition.leaves
    n_patch_entries = decomposition.network.weight2.shape[1]

    def spread(values: Tensor, entries: Tensor) -> Tensor:
        """Put the k open entries at their positions in the patch."""
        spread = torch.zeros(len(values), n_patch_entries, dtype=values.dtype)
        return spread.scatter_add(1, entries.cpu(), values.cpu())

    scale2 = decomposition.scale2[leaves.place]
    dual1 = leaves.dual1.value * torch.where(leaves.sign1 != 0, decomposition.scale1, 1.0)
    dual2 = leaves.dual2.value * torch.where(leaves.sign2 != 0, scale2, 1.0)
    leaf_entries = decomposition.terms.patch_entries[leaves.place]
    return TargetProof(
        target=np.array(target),
        gamma=_half(decomposition.rest.gamma.value[0]),
        place=leaves.place.cpu().numpy().astype(np.int32),
        sign1=spread(leaves.sign1, leaf_entries).numpy(),
        sign2=leaves.sign2.cpu().numpy(),
        dual1=_half(spread(dual1, leaf_entries)),
        dual2=_half(dual2),
        E=decomposition.E.value.cpu().numpy(),
        D=decomposition.D.value.cpu().numpy(),
    )


def certificate(
    label: int, eps: float, rows: OptimisedRows, proofs: list[TargetProof]
) -> Certificate:
    """Return the certificate of an image with these optimised rows and proofs."""
    return Certificate(
        label=label,
        eps=eps,
        place=rows.place.cpu().numpy().astype(np.int32),
        channel=rows.channel.cpu().numpy().astype(np.int32),
        is_upper=rows.is_upper.cpu().numpy(),
        alpha=rows.alpha.cpu().numpy(),
        proofs=tuple(proofs),
    )


def _half(values: Tensor) -> np.ndarray:
    """Round to float16, which is enough, since every value within the limits is sound."""
    array: np.ndarray = values.clamp(max=MAX_FLOAT16).to(torch.float16).cpu().numpy()
    return array
