"""Prove of images that no image within eps of them is misclassified, or find one that is."""

import math
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from irpipe.certification.counterexample import attack_margins
from irpipe.certification.decomposition import Decomposition, Rest
from irpipe.certification.image_proof import ImageProof, image_proof, predicted_class
from irpipe.certification.margin_bounds import MarginBounds, Margins
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.place_terms import place_terms
from irpipe.certification.pool_network import is_pool
from irpipe.certification.pool_search import certify_pool
from irpipe.certification.proof_arrays import certificate, tree_proof
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.relaxation import Ball, Interval
from irpipe.certification.root_bounds import IMAGES_AT_ONCE, RootBounds, root_bounds
from irpipe.certification.tree_search import (
    STOP_MARGIN,
    Limits,
    TreeSearch,
    search_trees,
)
from irpipe.networks.network import Network

DEFAULT_LEAVES = 6000


def certify_image(
    network: Network,
    image: Tensor,
    label: int,
    eps: float,
    *,
    leaves: int = DEFAULT_LEAVES,
    seconds: float | None = None,
    seed: int = 0,
) -> ImageProof:
    """Return what is known of one image `[C, H, W]`, as `certify_batch` does."""
    labels = torch.tensor([label], device=image.device)
    batch = (image[None], labels, eps)
    return next(certify_batch(network, *batch, leaves=leaves, seconds=seconds, seeds=[seed]))


def certify_batch(
    network: Network,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    leaves: int = DEFAULT_LEAVES,
    seconds: float | None = None,
    seeds: Sequence[int] | None = None,
    skip: Container[int] = (),
    known: Mapping[int, Tensor] = MappingProxyType({}),
) -> Iterator[ImageProof]:
    """Yield what is known of each of `images` `[N, C, H, W]` in [0, 1] with these `labels`.

    A certified image has a proof that no image within `eps` of it is misclassified, which was
    checked again in float64. A broken one has a misclassified image. An undecided one has
    neither: its search ended at `leaves` leaves of one target's trees, or after `seconds` of CPU
    time. For the limit on leaves alone, the outcome is deterministic.

    `seeds` seed the first attack's random starts, one for each image. None means 0, 1, ...
    Images whose numbers are in `skip` are left out; those of the others do not depend on it.
    `known` has misclassified images within `eps`, by number; these images are not attacked.
    For Pool there are only bounds and the attack: `leaves` and `seconds` limit nothing.
    Raises IrpipeError if the network is of neither architecture or gives logits that are not
    finite.
    """
    seeds = range(len(images)) if seeds is None else seeds
    if is_pool(network.backbone):
        yield from certify_pool(network, images, labels, eps, seeds, skip, known)
        return
    patch_network = PatchNetwork(network, images.shape[1:])
    checker = CertificateChecker(network)
    for first in range(0, len(images), IMAGES_AT_ONCE):
        part = slice(first, first + IMAGES_AT_ONCE)
        numbers = [number for number in range(len(images))[part] if number not in skip]
        if not numbers:
            continue
        # Of all images, since rounding depends on which are computed together.
        roots = root_bounds(patch_network, images[part].float(), labels[part], eps)
        for number in numbers:
            image = images[number]
            index = number - first
            adversarial = known.get(number, roots.adversarial[index])
            search = _ImageSearch(patch_network, checker, roots, index, image, eps, adversarial)
            yield search.run(int(labels[number]), leaves, seconds, seeds[number])


class _ImageSearch:
    """The search for a proof or a counterexample of one image of a batch."""

    def __init__(
        self,
        network: PatchNetwork,
        checker: CertificateChecker,
        roots: RootBounds,
        index: int,
        image: Tensor,
        eps: float,
        adversarial: Tensor | None,
    ) -> None:
        self.network = network
        self.checker = checker
        self.image = image
        self.clean = image.float()
        self.eps = eps
        self.ball = Ball(*(tensor[index : index + 1] for tensor in roots.ball))
        self.interval1 = Interval(*(tensor[index : index + 1] for tensor in roots.interval1))
        self.interval2 = Interval(*(tensor[index : index + 1] for tensor in roots.interval2))
        self.rows = roots.rows.of_image(index)
        self.adversarial = adversarial
        self.margins = Margins(*(tensor[index] for tensor in roots.margins))
        self.bounds = MarginBounds(*(tensor[index] for tensor in roots.bounds))
        self.root_seconds = roots.seconds
        self.start = time.thread_time()
        self.proofs = roots.proofs(index)

    def run(self, label: int, leaves: int, seconds: float | None, seed: int) -> ImageProof:
        """Return what is known of the image."""
        if predicted_class(self.network.network, self.clean) != label:
            return self._outcome(label)
        lower = self.bounds.lower
        n_open = int((lower <= STOP_MARGIN).sum())
        # The hardest target comes first, since it may end the search.
        order = lower.argsort()[:n_open]
        adversarial = self.adversarial
        if n_open and adversarial is None:
            adversarial = attack_margins(
                self.network,
                self.clean,
                self.eps,
                self.margins,
                self.bounds.minimiser,
                order,
                seed,
            )
        deadline = math.inf if seconds is None else self.start - self.root_seconds + seconds
        n_leaves = 0
        for k in order.tolist() if adversarial is None else ():
            search = self._search(k, Limits(leaves, deadline))
            n_leaves += search.decomposition.n_leaves
            adversarial = search.adversarial
            if search.bound > float(lower[k]):
                self.proofs[k] = tree_proof(int(self.margins.targets[k]), search.decomposition)
            if search.bound <= STOP_MARGIN:
                break
        return self._outcome(label, adversarial, n_leaves)

    def _search(self, k: int, limits: Limits) -> TreeSearch:
        """Search for a proof of the margin with index `k`."""
        terms = place_terms(self.network, self.ball, self.interval1, self.interval2)
        rest = Rest(self.network, terms, self.ball, self.interval1, self.bounds.alpha1[k])
        decomposition = Decomposition(
            self.network,
            terms,
            rest,
            self.margins.coefficients[k],
            self.margins.constant[k],
            self.bounds.alpha2[k],
        )
        return search_trees(decomposition, self.clean, self.eps, limits)

    def _outcome(
        self, label: int, adversarial: Tensor | None = None, n_leaves: int = 0
    ) -> ImageProof:
        proof = certificate(label, self.eps, self.rows, self.proofs)
        start = self.start - self.root_seconds
        network = self.network.network
        return image_proof(network, self.checker, self.image, proof, adversarial, start, n_leaves)
