"""Turn the duals that a search found into the arrays of a certificate."""

import numpy as np
import torch
from torch import Tensor

from irpipe.certification.certificate import SmallCertificate, TargetProof
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
    leaves, terms = decomposition.leaves, decomposition.terms
    n_entries = terms.n_entries
    entries, channels = terms.patch_entries[leaves.place], terms.channels[leaves.place]
    unit = decomposition.margin.scale[leaves.place]
    dual = leaves.dual.value * torch.where(leaves.sign != 0, unit, 1.0)
    n_patch_entries = decomposition.network.weight2.shape[1]
    n_channels = decomposition.coefficients.shape[1]
    return TargetProof(
        target=np.array(target),
        gamma=_half(decomposition.rest.gamma.value[0]),
        place=leaves.place.cpu().numpy().astype(np.int32),
        sign1=_spread(leaves.sign[:, :n_entries], entries, n_patch_entries).cpu().numpy(),
        sign2=_spread(leaves.sign[:, n_entries:], channels, n_channels).cpu().numpy(),
        dual1=_half(_spread(dual[:, :n_entries], entries, n_patch_entries)),
        dual2=_half(_spread(dual[:, n_entries:], channels, n_channels)),
        E=decomposition.E.value.cpu().numpy(),
        D=decomposition.D.value.cpu().numpy(),
    )


def _spread(values: Tensor, columns: Tensor, n_columns: int) -> Tensor:
    """Put `values` `[N, k]` into these columns of `[N, n_columns]`; the others are 0."""
    spread = values.new_zeros(len(values), n_columns)
    return spread.scatter_add_(1, columns, values)


def certificate(
    label: int, eps: float, rows: OptimisedRows, proofs: list[TargetProof]
) -> SmallCertificate:
    """Return the certificate of an image with these optimised rows and proofs."""
    return SmallCertificate(
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
