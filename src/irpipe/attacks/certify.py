"""Proofs: which images no attack within eps can break (docs/certify.md)."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.certification.certify import certify_batch
from irpipe.certification.proof_record import ProofRecord, SavedProofs
from irpipe.certification.status import Status
from irpipe.option_types import Count, EpsList, Positive
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import single_threaded_on_cpu

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

    Files: `certificate`, that of a certified image (`certification.certificate`).

    An interrupted evaluation goes on with the next image.

    Raises IrpipeError if the network is of neither architecture, Small or Pool.
    """
    adversarial = batch.images.repeat(len(eps), 1, 1, 1, 1)
    records: list[ProofRecord] = []
    # Misclassified images break at every larger eps, too.
    broken: list[tuple[float, int, Tensor]] = []
    with (
        progress(batch.progress_label, len(eps) * len(batch.images)) as advance,
        single_threaded_on_cpu(batch.images.device),
    ):
        for i, bound in enumerate(eps):
            known = {number: image for within, number, image in broken if within <= bound}
            for number, record in enumerate(_records(batch, bound, leaves, seconds, known)):
                records.append(record)
                if record.status == Status.BROKEN:
                    adversarial[i, number] = torch.from_numpy(record.adversarial)
                    broken.append((bound, number, adversarial[i, number]))
                advance(note=_counts(records))
    extras = _extras(records, batch.labels, len(eps))
    n_images = len(batch.labels)
    certificates = [record.certificate for record in records]
    rows = [certificates[start : start + n_images] for start in range(0, len(records), n_images)]
    yield AttackOutput(leaves, adversarial, extras=extras, files={"certificate": rows})


def _records(
    batch: AttackBatch, eps: float, leaves: int, seconds: float | None, known: dict[int, Tensor]
) -> Iterator[ProofRecord]:
    """Yield what is known of each image at `eps`, and keep it for the case of an interruption."""
    saved = SavedProofs(batch.state)
    indices = batch.indices.tolist()
    kept: dict[int, ProofRecord] = {}
    for number, index in enumerate(indices):
        if record := saved.load(index, eps):
            kept[number] = record
    proofs = certify_batch(
        batch.network,
        batch.images,
        batch.labels,
        eps,
        leaves=leaves,
        seconds=seconds,
        seeds=indices,
        skip=kept,
        known=known,
    )
    for number, index in enumerate(indices):
        if number in kept:
            yield kept[number]
        else:
            record = ProofRecord.of(next(proofs))
            saved.save(index, eps, record)
            yield record


def _counts(records: list[ProofRecord]) -> str:
    """How many images have each status, as text."""
    counts = Counter(record.status for record in records)
    return ", ".join(f"{counts[status]} {status.name.lower()}" for status in Status)


def _extras(records: list[ProofRecord], labels: Tensor, n_eps: int) -> dict[str, Tensor]:
    """The extras of `attack`, `[E, N]`, from one record per eps and image."""
    extras = {}
    for name in ("status", "hardest_target", "n_leaves", "margin_lower_bound", "seconds"):
        values = [getattr(record, name) for record in records]
        array = np.array(values).reshape(n_eps, len(labels))
        extras[name] = torch.from_numpy(array).to(labels.device)
    return extras
