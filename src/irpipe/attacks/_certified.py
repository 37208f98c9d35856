"""Which images need no attack, because it is proven that none succeeds."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch
from irpipe.certification.root_bounds import certify_by_bounds
from irpipe.runtime.progress import Advance, progress
from irpipe.runtime.threads import map_row_chunks


def certified_by_bounds(batch: AttackBatch, eps: Sequence[float], skip_certified: bool) -> Tensor:
    """Return whether bounds alone certify each image at each eps, `[E, N]` (docs/certify.md).

    Without `skip_certified` nothing is computed, and all of them are False. What `batch.certified`
    knows is not proven again. Each proof was checked again in float64. What is certified at one
    eps is certified at all smaller ones. Raises IrpipeError if the architecture has no proofs.
    """
    is_certified = torch.zeros(len(eps), len(batch.labels), dtype=torch.bool)
    if not skip_certified:
        return is_certified.to(batch.labels.device)
    bounds = torch.tensor(eps, dtype=torch.float64)
    label = f"proofs for {batch.progress_label}" if batch.progress_label else ""
    with progress(label, is_certified.numel()) as advance:
        prove = partial(_is_proven, batch, advance)
        for i in bounds.argsort(descending=True).tolist():
            left = torch.nonzero(~is_certified[i])[:, 0].tolist()
            keys = {number: (int(batch.indices[number]), eps[i]) for number in left}
            unknown = [number for number in left if keys[number] not in batch.certified]
            advance(len(batch.labels) - len(unknown))
            columns = batch.images[unknown], batch.labels[unknown]
            is_proven = map_row_chunks(partial(prove, eps[i]), *columns)[0].tolist()
            for number, is_number_proven in zip(unknown, is_proven, strict=True):
                batch.certified[keys[number]] = is_number_proven
            for number in left:
                is_certified[bounds <= bounds[i], number] |= batch.certified[keys[number]]
    return is_certified.to(batch.labels.device)


def _is_proven(
    batch: AttackBatch, advance: Advance, eps: float, images: Tensor, labels: Tensor
) -> list[Tensor]:
    """Whether bounds alone certify these images within `eps`."""
    is_proven = []
    for proof in certify_by_bounds(batch.network, images, labels, eps):
        is_proven.append(proof is not None)
        advance()
    return [torch.tensor(is_proven, dtype=torch.bool)]
