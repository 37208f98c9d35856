"""What is known of an image at the end of a search."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from irpipe.certification.certificate import MIN_MARGIN, Certificate
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.status import Status
from irpipe.networks.network import Network


@dataclass(frozen=True)
class ImageProof:
    """What is known of one image at one eps.

    - `margin_lower_bound`: proven lower bound of f_label - f_t within eps, over all targets t;
    - `hardest_target`: the target of that bound; of a broken or misclassified image, its class;
    - `seconds`: CPU time of the calling thread;
    - `n_leaves`: leaves of all trees, without those of a single leaf for each place;
    - `adversarial`: the misclassified image `[C, H, W]` of a broken one, else None;
    - `certificate`: what proves `margin_lower_bound`.
    """

    status: Status
    margin_lower_bound: float
    hardest_target: int
    seconds: float
    n_leaves: int
    adversarial: Tensor | None
    certificate: Certificate


def image_proof(
    network: Network,
    checker: CertificateChecker,
    image: Tensor,
    certificate: Certificate,
    adversarial: Tensor | None,
    start: float,
    n_leaves: int = 0,
) -> ImageProof:
    """Return what is known of `image` `[C, H, W]`, with its `certificate` checked by `checker`.

    `adversarial` counts only if the network itself misclassifies it. `start` is the
    `time.thread_time` at which the search began. Raises RuntimeError if an image contradicts the
    certificate.
    """
    label = certificate.label
    margins = checker.margins(image, label, certificate.eps, certificate)
    target = min(margins, key=margins.__getitem__)
    status = Status.CERTIFIED if margins[target] > MIN_MARGIN else Status.UNDECIDED
    lower_bound = margins[target]
    clean_class = predicted_class(network, image)
    # The margin may be negative only in the rounding of the patch form.
    broken_class = label if adversarial is None else predicted_class(network, adversarial)
    if clean_class != label:
        status, target = Status.MISCLASSIFIED, clean_class
    elif broken_class != label:
        status, target = Status.BROKEN, broken_class
    if status != Status.CERTIFIED and lower_bound > MIN_MARGIN:
        raise RuntimeError(
            f"certify: an image within {certificate.eps:g} is classified as {target}, but a margin "
            f"of {lower_bound:.6g} is proven for {label}"
        )
    return ImageProof(
        status=status,
        margin_lower_bound=lower_bound,
        hardest_target=target,
        seconds=time.thread_time() - start,
        n_leaves=n_leaves,
        adversarial=adversarial if status == Status.BROKEN else None,
        certificate=certificate,
    )


def predicted_class(network: Network, image: Tensor) -> int:
    """Return the class that the network itself predicts for `image` `[C, H, W]`."""
    with torch.no_grad():
        return int(network(image[None].float()).argmax())
