"""Bounds of a batch of images before any split, the cheap ones first."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from irpipe.certification.certificate import EPS_MARGIN, MIN_MARGIN, Certificate, TargetProof
from irpipe.certification.counterexample import Descent, descend
from irpipe.certification.layer2_bounds import (
    N_STEPS,
    OptimisedRows,
    crown_interval,
    optimised_interval,
)
from irpipe.certification.margin_bounds import MarginBounds, Margins, margin_bounds, margins_of
from irpipe.certification.patch_network import PatchNetwork, is_small
from irpipe.certification.pool_network import is_pool
from irpipe.certification.pool_search import certify_pool_by_bounds
from irpipe.certification.proof_arrays import certificate, root_proof
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.relaxation import Ball, Interval, clipped_ball, layer1_interval
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network

# Images whose bounds are computed together.
IMAGES_AT_ONCE = 16
# A bound above this is not raised further. Rounding the duals for the certificate costs some.
ENOUGH = 10 * MIN_MARGIN
# The attack on images that CROWN does not certify: its targets, the hardest ones, and its steps.
ATTACK_TARGETS = 2
ATTACK_STEPS = 20


@dataclass(frozen=True)
class RootBounds:
    """The bounds of B images before any split.

    - `rows`: the bounds of layer 2 whose slopes were optimised;
    - `adversarial`: for each image a misclassified one within eps that a short attack found, or
      None;
    - `seconds`: CPU time per image.
    """

    ball: Ball
    interval1: Interval
    interval2: Interval
    rows: OptimisedRows
    margins: Margins
    bounds: MarginBounds
    adversarial: list[Tensor | None]
    seconds: float

    def proofs(self, index: int) -> list[TargetProof]:
        """Return what the bounds of one image prove of each target."""
        targets = self.margins.targets[index].tolist()
        alphas = (self.bounds.alpha1[index], self.bounds.alpha2[index])
        n_entries = self.rows.alpha.shape[1]
        return [root_proof(*proof, n_entries) for proof in zip(targets, *alphas, strict=True)]


def certify_by_bounds(
    network: Network, images: Tensor, labels: Tensor, eps: float
) -> Iterator[Certificate | None]:
    """Yield a certificate for each image that bounds alone certify within `eps`, else None.

    `images` are `[N, C, H, W]` in [0, 1], with these `labels`. This takes some hundredths of a
    second per image, for Pool some seconds. `certify_batch` certifies more images of Small, in
    more time. Raises IrpipeError as it does.
    """
    if is_pool(network.backbone):
        yield from certify_pool_by_bounds(network, images, labels, eps)
        return
    patch_network = PatchNetwork(network, images.shape[1:])
    checker = CertificateChecker(network)
    for first in range(0, len(images), IMAGES_AT_ONCE):
        part = slice(first, first + IMAGES_AT_ONCE)
        roots = root_bounds(patch_network, images[part].float(), labels[part], eps)
        for index, label in enumerate(labels[part].tolist()):
            if float(roots.bounds.lower[index].min()) <= MIN_MARGIN:
                yield None
                continue
            proof = certificate(label, eps, roots.rows.of_image(index), roots.proofs(index))
            margins = checker.margins(images[first + index], label, eps, proof)
            yield proof if min(margins.values()) > MIN_MARGIN else None


def has_fast_bounds(network: nn.Module) -> bool:
    """Whether `network` is a Small: its bounds take less time than an attack.

    Those of Pool take some seconds per image.
    """
    return is_small(getattr(network, "backbone", None))


def root_bounds(network: PatchNetwork, images: Tensor, labels: Tensor, eps: float) -> RootBounds:
    """Return the bounds of a batch of images.

    First come CROWN's. An image that they leave open is attacked, and if this does not break it,
    the slopes are optimised. Raises IrpipeError if logits are not finite.
    """
    start = time.thread_time()
    logits = network.logits(images)
    if not bool(logits.isfinite().all()):
        raise IrpipeError("the network gives logits that are not finite; train it again")
    ball = clipped_ball(images, eps + EPS_MARGIN)
    interval1 = layer1_interval(network, ball)
    interval2 = crown_interval(network, ball, interval1)
    margins = margins_of(network, labels)
    bounds = margin_bounds(network, ball, interval1, interval2, margins, 0)
    is_open = (logits.argmax(dim=1) == labels) & (bounds.lower.amin(dim=1) <= ENOUGH)
    adversarial: list[Tensor | None] = [None] * len(images)
    open_images = torch.nonzero(is_open)[:, 0]
    descents = _attack(network, images, eps, margins, bounds, open_images)
    for index, descent in zip(open_images.tolist(), descents, strict=True):
        adversarial[index] = descent.misclassified()
        is_open[index] = adversarial[index] is None
    rows = _optimise(network, ball, interval1, interval2, margins, bounds, is_open)
    seconds = (time.thread_time() - start) / len(images)
    return RootBounds(ball, interval1, interval2, rows, margins, bounds, adversarial, seconds)


def _attack(
    network: PatchNetwork,
    images: Tensor,
    eps: float,
    margins: Margins,
    bounds: MarginBounds,
    index: Tensor,
) -> list[Descent]:
    """Return what a short PGD on the hardest targets finds for the images at `index`.

    It starts at the image and at CROWN's minimiser.
    """
    if not len(index):
        return []
    n_targets = min(ATTACK_TARGETS, bounds.lower.shape[1])
    target = bounds.lower[index].topk(n_targets, largest=False).indices.repeat(1, 2).flatten()
    image = index.repeat_interleave(2 * n_targets)
    clean = images[image]
    is_clean_start = torch.arange(len(image), device=image.device) % (2 * n_targets) < n_targets
    starts = torch.where(is_clean_start.view(-1, 1, 1, 1), clean, bounds.minimiser[image, target])
    coefficients, constant = margins.coefficients[image, target], margins.constant[image, target]
    descent = descend(network, clean, eps, starts, coefficients, constant, ATTACK_STEPS)
    parts = (torch.split(tensor, 2 * n_targets) for tensor in descent)
    return [Descent(*part) for part in zip(*parts, strict=True)]


def _optimise(
    network: PatchNetwork,
    ball: Ball,
    interval1: Interval,
    interval2: Interval,
    margins: Margins,
    bounds: MarginBounds,
    is_open: Tensor,
) -> OptimisedRows:
    """Optimise the slopes of images that are open; store `interval2` and `bounds` in place."""
    if not is_open.any():
        return OptimisedRows.none(network)
    ball = Ball(*(tensor[is_open] for tensor in ball))
    interval1 = Interval(*(tensor[is_open] for tensor in interval1))
    crown = Interval(*(tensor[is_open] for tensor in interval2))
    optimised, rows = optimised_interval(network, ball, interval1, crown, N_STEPS)
    open_margins = Margins(*(tensor[is_open] for tensor in margins))
    raised = margin_bounds(network, ball, interval1, optimised, open_margins, enough=ENOUGH)
    for stored, new in zip((*interval2, *bounds), (*optimised, *raised), strict=True):
        stored[is_open] = new
    image = torch.nonzero(is_open)[:, 0][rows.image]
    return replace(rows, image=image)
