"""Which images need no attack, because it is proven that none succeeds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch
from irpipe.certification.root_bounds import certify_by_bounds
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import single_threaded_on_cpu


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
    with (
        progress(label, is_certified.numel()) as advance,
        single_threaded_on_cpu(batch.images.device),
    ):
        for i in bounds.argsort(descending=True).tolist():
            left = torch.nonzero(~is_certified[i])[:, 0].tolist()
            keys = {number: (int(batch.indices[number]), eps[i]) for number in left}
            unknown = [number for number in left if keys[number] not in batch.certified]
            advance(len(batch.labels) - len(unknown))
            images, labels = batch.images[unknown], batch.labels[unknown]
            proofs = certify_by_bounds(batch.network, images, labels, eps[i])
            for number, proof in zip(unknown, proofs, strict=True):
                batch.certified[keys[number]] = proof is not None
                advance()
            for number in left:
                is_certified[bounds <= bounds[i], number] |= batch.certified[keys[number]]
    return is_certified.to(batch.labels.device)
