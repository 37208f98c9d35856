"""Prove of images that no image within eps of them is misclassified by Pool, or find one."""

import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from irpipe.certification.certificate import (
    EPS_MARGIN,
    MIN_MARGIN,
    WEIGHT_LEVELS,
    Certificate,
    PoolCertificate,
    PoolTargetProof,
)
from irpipe.certification.counterexample import attack_margins
from irpipe.certification.image_proof import ImageProof, image_proof, predicted_class
from irpipe.certification.margin_bounds import Margins, margins_of
from irpipe.certification.pool_margins import PoolMargins, bound_margins
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.pool_relaxation import PoolRelaxation, relax_pool
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.relaxation import clipped_ball
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network

# Images whose bounds are computed together; more do not fit into a CPU's cache.
IMAGES_AT_ONCE = 4


@dataclass(frozen=True)
class _Bounds:
    """The bounds of a batch of images, and the CPU seconds that each one took."""

    relaxation: PoolRelaxation
    margins: Margins
    bounds: PoolMargins
    seconds: float

    def certificate(self, index: int, label: int, eps: float) -> PoolCertificate:
        """Return the certificate of one image."""
        targets = self.margins.targets[index].tolist()
        weights = zip(self.bounds.lambda1[index], self.bounds.lambda2[index], strict=True)
        return PoolCertificate(
            label=label,
            eps=eps,
            proofs=tuple(
                PoolTargetProof(np.array(target), _levels(lambda1), _levels(lambda2))
                for target, (lambda1, lambda2) in zip(targets, weights, strict=True)
            ),
            mu1=self.relaxation.mu1[index].half().cpu().numpy(),
            mu2=self.relaxation.mu2[index].half().cpu().numpy(),
            lambda1=_levels(self.relaxation.lambda1[index]),
        )


def certify_pool(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    seeds: Sequence[int],
    skip: Container[int],
    known: Mapping[int, Tensor],
) -> Iterator[ImageProof]:
    """Yield what is known of each of `images`, as `certify.certify_batch` does.

    What bounds leave open is attacked.
    """
    pool_network = PoolNetwork(network, images.shape[1:])
    checker = CertificateChecker(network)
    for index, number, roots in _bounds_of(pool_network, images, labels, eps, skip):
        start = time.thread_time() - roots.seconds
        label, clean = int(labels[number]), images[number].float()
        lower = roots.bounds.lower[index]
        order = lower.argsort()[: int((lower <= MIN_MARGIN).sum())]
        adversarial = known.get(number)
        if adversarial is None and len(order) and predicted_class(network, clean) == label:
            margins = Margins(*(tensor[index] for tensor in roots.margins))
            minimiser = roots.bounds.minimiser[index]
            adversarial = attack_margins(
                pool_network, clean, eps, margins, minimiser, order, seeds[number]
            )
        certificate = roots.certificate(index, label, eps)
        yield image_proof(network, checker, images[number], certificate, adversarial, start)


def certify_pool_by_bounds(
    network: Network, images: Tensor, labels: Tensor, eps: float
) -> Iterator[Certificate | None]:
    """Yield a certificate for each image, or None, as `root_bounds.certify_by_bounds` does."""
    pool_network = PoolNetwork(network, images.shape[1:])
    checker = CertificateChecker(network)
    for index, number, roots in _bounds_of(pool_network, images, labels, eps):
        proof = roots.certificate(index, int(labels[number]), eps)
        margins = checker.margins(images[number], proof.label, eps, proof)
        yield proof if min(margins.values()) > MIN_MARGIN else None


def _bounds_of(
    network: PoolNetwork,
    images: Tensor,
    labels: Tensor,
    eps: float,
    skip: Container[int] = (),
) -> Iterator[tuple[int, int, _Bounds]]:
    """Yield for each image its index in a batch, its number, and the batch's bounds.

    Images whose numbers are in `skip` are left out.
    """
    for first in range(0, len(images), IMAGES_AT_ONCE):
        last = min(first + IMAGES_AT_ONCE, len(images))
        numbers = [number for number in range(first, last) if number not in skip]
        if not numbers:
            continue
        start = time.thread_time()
        batch = images[first : first + IMAGES_AT_ONCE].float()
        if not bool(network.network(batch).isfinite().all()):
            raise IrpipeError("the network gives logits that are not finite; train it again")
        ball = clipped_ball(batch, eps + EPS_MARGIN)
        relaxation = relax_pool(network, ball)
        margins = margins_of(network, labels[first : first + IMAGES_AT_ONCE])
        bounds = bound_margins(network, ball, relaxation, margins)
        seconds = (time.thread_time() - start) / len(batch)
        for number in numbers:
            yield number - first, number, _Bounds(relaxation, margins, bounds, seconds)


def _levels(weights: Tensor) -> np.ndarray:
    levels: np.ndarray = (weights * WEIGHT_LEVELS).round().to(torch.uint8).cpu().numpy()
    return levels
