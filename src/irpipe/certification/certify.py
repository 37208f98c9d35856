"""Prove of images that no image within eps of them is misclassified, or find one that is."""

import math
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irpipe.certification.certificate import MIN_MARGIN, Certificate
from irpipe.certification.counterexample import descend
from irpipe.certification.decomposition import Decomposition, Rest
from irpipe.certification.margin_bounds import MarginBounds, Margins
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.place_terms import place_terms
from irpipe.certification.proof_arrays import certificate, tree_proof
from irpipe.certification.recheck import certified_margins
from irpipe.certification.relaxation import Ball, Interval
from irpipe.certification.root_bounds import IMAGES_AT_ONCE, RootBounds, root_bounds
from irpipe.certification.status import Status
from irpipe.certification.tree_search import (
    STOP_MARGIN,
    Limits,
    TreeSearch,
    search_trees,
)
from irpipe.networks.network import Network

DEFAULT_LEAVES = 6000
# The first attack: steps, and random starts for each target.
ATTACK_STEPS = 60
RANDOM_STARTS = 2


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
) -> Iterator[ImageProof]:
    """Yield what is known of each of `images` `[N, C, H, W]` in [0, 1] with these `labels`.

    A certified image has a proof that no image within `eps` of it is misclassified, which was
    checked again in float64. A broken one has a misclassified image. An undecided one has
    neither: its search ended at `leaves` leaves of one target's trees, or after `seconds` of CPU
    time. For the limit on leaves alone, the outcome is deterministic.

    `seeds` seed the first attack's random starts, one for each image. None means 0, 1, ...
    Images whose numbers are in `skip` are left out; those of the others do not depend on it.
    Raises IrpipeError if the network is not of the architecture Small or gives logits that are
    not finite.
    """
    patch_network = PatchNetwork(network, images.shape[1:])
    seeds = range(len(images)) if seeds is None else seeds
    for first in range(0, len(images), IMAGES_AT_ONCE):
        part = slice(first, first + IMAGES_AT_ONCE)
        numbers = [number for number in range(len(images))[part] if number not in skip]
        if not numbers:
            continue
        # Of all images, since rounding depends on which are computed together.
        roots = root_bounds(patch_network, images[part].float(), labels[part], eps)
        for number in numbers:
            search = _ImageSearch(patch_network, roots, number - first, images[number], eps)
            yield search.run(int(labels[number]), leaves, seconds, seeds[number])


class _ImageSearch:
    """The search for a proof or a counterexample of one image of a batch."""

    def __init__(
        self, network: PatchNetwork, roots: RootBounds, index: int, image: Tensor, eps: float
    ) -> None:
        self.network = network
        self.image = image
        self.clean = image.float()
        self.eps = eps
        self.ball = Ball(*(tensor[index : index + 1] for tensor in roots.ball))
        self.interval1 = Interval(*(tensor[index : index + 1] for tensor in roots.interval1))
        self.interval2 = Interval(*(tensor[index : index + 1] for tensor in roots.interval2))
        self.rows = roots.rows.of_image(index)
        self.adversarial = roots.adversarial[index]
        self.margins = Margins(*(tensor[index] for tensor in roots.margins))
        self.bounds = MarginBounds(*(tensor[index] for tensor in roots.bounds))
        self.root_seconds = roots.seconds
        self.start = time.thread_time()
        self.proofs = roots.proofs(index)

    def run(self, label: int, leaves: int, seconds: float | None, seed: int) -> ImageProof:
        """Return what is known of the image."""
        prediction = self._prediction(self.clean)
        if prediction != label:
            return self._outcome(label, 0, Status.MISCLASSIFIED, prediction)
        lower = self.bounds.lower
        n_open = int((lower <= STOP_MARGIN).sum())
        # The hardest target comes first, since it may end the search.
        order = lower.argsort()[:n_open]
        adversarial = self.adversarial
        if n_open and adversarial is None:
            adversarial = self._attack(order, seed)
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
        if adversarial is not None:
            prediction = self._prediction(adversarial)
            # Else the margin is negative only in the rounding of the patch form.
            if prediction != label:
                return self._outcome(label, n_leaves, Status.BROKEN, prediction, adversarial)
        return self._outcome(label, n_leaves)

    def _prediction(self, image: Tensor) -> int:
        """Return the class that the network itself predicts."""
        with torch.no_grad():
            return int(self.network.network(image[None]).argmax())

    def _attack(self, order: Tensor, seed: int) -> Tensor | None:
        """Return a misclassified image, or None. PGD aims at the targets with indices `order`.

        For each of them it starts at the clean image, at alpha-CROWN's minimiser and at
        RANDOM_STARTS points of the ball.
        """
        generator = torch.Generator().manual_seed(seed)
        shape = (len(order), RANDOM_STARTS, *self.clean.shape)
        noise = 2 * torch.rand(shape, generator=generator).to(self.clean) - 1
        starts = [
            self.clean.expand(len(order), 1, -1, -1, -1),
            self.bounds.minimiser[order, None],
            self.clean + self.eps * noise,
        ]
        rows = order.repeat_interleave(RANDOM_STARTS + 2)
        descent = descend(
            self.network,
            self.clean,
            self.eps,
            torch.cat(starts, dim=1).flatten(0, 1),
            self.margins.coefficients[rows],
            self.margins.constant[rows],
            ATTACK_STEPS,
        )
        return descent.misclassified()

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
        self,
        label: int,
        n_leaves: int,
        status: Status | None = None,
        hardest_target: int | None = None,
        adversarial: Tensor | None = None,
    ) -> ImageProof:
        """Check the proofs in float64. A status of None means certified or undecided."""
        proof = certificate(label, self.eps, self.rows, self.proofs)
        margins = certified_margins(self.network.network, self.image, label, self.eps, proof)
        target = min(margins, key=margins.__getitem__)
        if status is None:
            is_proven = margins[target] > MIN_MARGIN
            status = Status.CERTIFIED if is_proven else Status.UNDECIDED
        return ImageProof(
            status=status,
            margin_lower_bound=margins[target],
            hardest_target=target if hardest_target is None else hardest_target,
            seconds=time.thread_time() - self.start + self.root_seconds,
            n_leaves=n_leaves,
            adversarial=adversarial,
            certificate=proof,
        )
