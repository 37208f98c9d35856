"""Proofs: which images no attack within eps can break (docs/certify.md)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.certification.certify import ImageProof, certify_batch
from irpipe.certification.status import Status
from irpipe.option_types import Count, EpsList, Positive
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import single_threaded_torch

PROTOCOL: tuple[str, ...] = ()


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # The search for a proof ends when the trees of one target have so many leaves.
    leaves: Count = 6000,
    # It also ends after so many seconds of CPU time per image and eps. None means no such limit.
    # With a limit, whether an image is undecided depends on the machine.
    seconds: Positive | None = None,
) -> Iterator[AttackOutput]:
    """Yield the misclassified images of broken ones and the clean images of the others.

    The images are `[E, N, C, H, W]`; the one step count is `leaves`.

    Extras, `[E, N]`:
    - `status`: 1 certified, 2 undecided, 3 broken, 4 misclassified as a clean image;
    - `margin_lower_bound`: proven lower bound of f_label - f_t over all t within eps;
    - `hardest_target`: the target t of this bound; for a broken or misclassified image the class
      that is predicted;
    - `seconds`: CPU time;
    - `n_leaves`: leaves of all trees.

    Raises IrpipeError if the network is not of the architecture Small.
    """
    adversarial = batch.images.repeat(len(eps), 1, 1, 1, 1)
    proofs: list[ImageProof] = []
    # One of torch's threads, since the layers of one image are too small for more.
    is_on_cpu = batch.images.device.type == "cpu"
    with (
        progress(batch.progress_label, len(eps) * len(batch.images)) as advance,
        single_threaded_torch() if is_on_cpu else nullcontext(),
    ):
        for i, bound in enumerate(eps):
            search = certify_batch(
                batch.network,
                batch.images,
                batch.labels,
                bound,
                leaves=leaves,
                seconds=seconds,
                seeds=batch.indices.tolist(),
            )
            for number, proof in enumerate(search):
                proofs.append(proof)
                if proof.adversarial is not None:
                    adversarial[i, number] = proof.adversarial
                advance(note=_counts(proofs))
    yield AttackOutput(leaves, adversarial, extras=_extras(proofs, batch.labels, len(eps)))


def _counts(proofs: list[ImageProof]) -> str:
    """How many images have each status, as text."""
    counts = Counter(proof.status for proof in proofs)
    return ", ".join(f"{counts[status]} {status.name.lower()}" for status in Status)


def _extras(proofs: list[ImageProof], labels: Tensor, n_eps: int) -> dict[str, Tensor]:
    """The extras of `attack`, `[E, N]`, from one proof per eps and image."""
    rows = {
        "status": [int(proof.status) for proof in proofs],
        "hardest_target": [proof.hardest_target for proof in proofs],
        "n_leaves": [proof.n_leaves for proof in proofs],
        "margin_lower_bound": [proof.margin_lower_bound for proof in proofs],
        "seconds": [proof.seconds for proof in proofs],
    }
    extras = {}
    for name, values in rows.items():
        array = np.array(values).reshape(n_eps, len(labels))
        extras[name] = torch.from_numpy(array).to(labels.device)
    return extras
