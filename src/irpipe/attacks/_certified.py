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
        prove = partial(_prove, batch, advance)
        for i in bounds.argsort(descending=True).tolist():
            left = torch.nonzero(~is_certified[i])[:, 0].tolist()
            keys = {number: (int(batch.indices[number]), eps[i]) for number in left}
            unknown = [number for number in left if keys[number] not in batch.certified]
            advance(len(batch.labels) - len(unknown))
            numbers = torch.tensor(unknown, dtype=torch.long, device=batch.labels.device)
            map_row_chunks(partial(prove, eps[i]), numbers)
            for number in left:
                is_certified[bounds <= bounds[i], number] |= batch.certified[keys[number]]
    return is_certified.to(batch.labels.device)


def _prove(batch: AttackBatch, advance: Advance, eps: float, numbers: Tensor) -> list[Tensor]:
    """Put into `batch.certified` whether bounds alone certify these images of it within `eps`.

    Each joins at once, so that an interruption loses none.
    """
    proofs = certify_by_bounds(batch.network, batch.images[numbers], batch.labels[numbers], eps)
    for number, proof in zip(numbers.tolist(), proofs, strict=True):
        batch.certified[int(batch.indices[number]), eps] = proof is not None
        advance()
    return [numbers]
