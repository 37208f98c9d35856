"""What a result stores of an image's proof, and how an interrupted evaluation keeps it."""

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from irpipe.certification.image_proof import ImageProof
from irpipe.certification.status import Status
from irpipe.files import atomic_write

DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class ProofRecord:
    """An `ImageProof` in what can be stored.

    - `adversarial`: the misclassified image `[C, H, W]` of a broken one, else an empty array;
    - `certificate`: `Certificate.to_bytes` of a certified image, else no bytes.
    """

    status: Status
    margin_lower_bound: float
    hardest_target: int
    seconds: float
    n_leaves: int
    adversarial: np.ndarray
    certificate: bytes

    @staticmethod
    def of(proof: ImageProof) -> "ProofRecord":
        """Return the record of a proof."""
        adversarial = proof.adversarial
        is_certified = proof.status == Status.CERTIFIED
        return ProofRecord(
            proof.status,
            proof.margin_lower_bound,
            proof.hardest_target,
            proof.seconds,
            proof.n_leaves,
            np.empty(0) if adversarial is None else adversarial.cpu().numpy(),
            proof.certificate.to_bytes() if is_certified else b"",
        )


class SavedProofs:
    """The records of an interrupted evaluation in a folder, one file per image and eps.

    A file that is damaged counts as missing. A folder of None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def save(self, index: int, eps: float, record: ProofRecord) -> None:
        """Keep the record of the image with this `index` in the test set."""
        if self.folder is None:
            return
        file = io.BytesIO()
        fields = asdict(record) | {"certificate": np.frombuffer(record.certificate, np.uint8)}
        np.savez(file, **fields)
        content = file.getvalue()
        with atomic_write(_path(self.folder, index, eps)) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)

    def load(self, index: int, eps: float) -> ProofRecord | None:
        """Return what was kept of an image; None means nothing that is complete."""
        if self.folder is None:
            return None
        try:
            file = _path(self.folder, index, eps).read_bytes()
        except OSError:
            return None
        digest, content = file[:DIGEST_BYTES], file[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return ProofRecord(
                Status(int(arrays["status"])),
                float(arrays["margin_lower_bound"]),
                int(arrays["hardest_target"]),
                float(arrays["seconds"]),
                int(arrays["n_leaves"]),
                arrays["adversarial"],
                arrays["certificate"].tobytes(),
            )


def _path(folder: Path, index: int, eps: float) -> Path:
    return folder / f"{index}_{eps!r}.proof"
