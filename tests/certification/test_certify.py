"""The four states of an image, and the figures of the released networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_batch
from pool_referee import SHAPE as POOL_SHAPE
from pool_referee import tiny_pool
from small_referee import tiny_image, tiny_network
from torch import Tensor

from irpipe.attacks import certify as kind
from irpipe.certification.certificate import MIN_MARGIN
from irpipe.certification.certify import certify_batch, certify_image
from irpipe.certification.image_proof import ImageProof
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.root_bounds import certify_by_bounds
from irpipe.certification.status import Status
from irpipe.datasets import load
from irpipe.errors import IrpipeError
from irpipe.networks.load import load_network
from irpipe.networks.network import Network
from irpipe.networks.released import read_released

NETWORK = tiny_network(6)


def label_of(image: torch.Tensor) -> int:
    return int(NETWORK(image[None]).argmax())


def test_a_certified_image_withstands_what_breaks_others() -> None:
    image = tiny_image(6)
    proof = certify_image(NETWORK, image, label_of(image), 0.02)
    assert (proof.status, proof.adversarial, proof.n_leaves) == (Status.CERTIFIED, None, 0)
    logits = NETWORK(image[None])[0]
    margin = logits[label_of(image)] - logits[proof.hardest_target]
    assert 0 < proof.margin_lower_bound < float(margin)


def test_a_broken_image_has_a_misclassified_one_within_eps() -> None:
    image = tiny_image(6)
    proof = certify_image(NETWORK, image, label_of(image), 0.3)
    assert proof.status == Status.BROKEN
    assert proof.adversarial is not None
    assert label_of(proof.adversarial) == proof.hardest_target != label_of(image)
    assert float((proof.adversarial - image).abs().max()) <= 0.3 + 1e-6
    assert proof.margin_lower_bound < 0


def test_a_misclassified_image_is_neither_attacked_nor_proven() -> None:
    image = tiny_image(6)
    wrong = (label_of(image) + 1) % 3
    proof = certify_image(NETWORK, image, wrong, 0.02)
    assert proof.status == Status.MISCLASSIFIED
    assert proof.hardest_target == label_of(image)
    assert proof.adversarial is None
    assert proof.margin_lower_bound < 0


def test_an_image_is_undecided_if_the_leaves_do_not_suffice() -> None:
    image = tiny_image(6)
    assert certify_image(NETWORK, image, label_of(image), 0.08).status == Status.CERTIFIED
    for limits in ({"leaves": 1}, {"seconds": 1e-6}):
        proof = certify_image(NETWORK, image, label_of(image), 0.08, **limits)
        assert proof.status == Status.UNDECIDED
        assert proof.margin_lower_bound < 0


def test_the_outcome_is_deterministic_and_does_not_depend_on_the_batch() -> None:
    images = torch.stack([tiny_image(seed) for seed in range(4)])
    labels = NETWORK(images).argmax(dim=1)

    def outcomes(proofs: list[ImageProof]) -> list[Any]:
        return [(proof.status, proof.hardest_target, proof.n_leaves) for proof in proofs]

    first = list(certify_batch(NETWORK, images, labels, 0.08, leaves=100))
    second = list(certify_batch(NETWORK, images, labels, 0.08, leaves=100))
    for one, other in zip(first, second, strict=True):
        assert one.certificate.to_bytes() == other.certificate.to_bytes()
    alone = [
        certify_image(NETWORK, image, int(label), 0.08, leaves=100, seed=seed)
        for seed, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    assert outcomes(first) == outcomes(alone)


def test_bounds_alone_certify_what_they_prove() -> None:
    images = torch.stack([tiny_image(seed) for seed in (6, 6, 3)])
    labels = NETWORK(images).argmax(dim=1)
    labels[1] = (labels[1] + 1) % 3
    first, misclassified, last = certify_by_bounds(NETWORK, images, labels, 0.02)
    assert misclassified is None
    for index, certificate in ((0, first), (2, last)):
        assert certificate is not None
        label = int(labels[index])
        margins = CertificateChecker(NETWORK).margins(images[index], label, 0.02, certificate)
        assert min(margins.values()) > MIN_MARGIN
    # Seed 6 needs a tree at .08 and is broken at .3.
    for eps in (0.08, 0.3):
        assert next(certify_by_bounds(NETWORK, images[:1], labels[:1], eps)) is None


def test_logits_that_are_not_finite_are_refused() -> None:
    network = tiny_network(6)
    network.head[0, 0] = torch.nan
    with pytest.raises(IrpipeError, match="gives logits that are not finite; train it again"):
        certify_image(network, tiny_image(6), 0, 0.1)


def test_the_kind_reports_the_four_states(capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.stack([tiny_image(seed) for seed in (6, 6, 3)]).double()
    labels = NETWORK(images.float()).argmax(dim=1)
    labels[1] = (labels[1] + 1) % 3
    batch = make_batch(NETWORK, images, labels)
    arrays = evaluate_attack(batch, kind, [0.0, 0.02, 0.3], leaves=40)
    status = arrays["status"][:, :, 0]
    assert status[:, 0].tolist() == [0, 0, 0]
    assert status[:, 1].tolist() == [Status.CERTIFIED, Status.MISCLASSIFIED, Status.CERTIFIED]
    assert status[0, 2] == Status.BROKEN
    is_wrong = np.isin(status, [Status.BROKEN, Status.MISCLASSIFIED])
    assert (arrays["correct"][:, 1:, 0] == ~is_wrong[:, 1:]).all()
    assert (arrays["linf_distance"][:, :, 0] > 0).tolist() == (status == Status.BROKEN).tolist()
    assert (arrays["margin_lower_bound"] > 1e-3)[:, 1:, 0].tolist() == (
        status[:, 1:] == Status.CERTIFIED
    ).tolist()
    assert arrays["steps"].tolist() == [40]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("network", "shape"),
    [(NETWORK, tiny_image(0).shape), (tiny_pool(2), POOL_SHAPE)],
    ids=["Small", "Pool"],
)
def test_what_breaks_an_image_breaks_it_at_larger_eps(
    network: Network, shape: tuple[int, int, int]
) -> None:
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(3))
    batch = make_batch(network, images.double(), network(images).argmax(dim=1))

    def attacked(*eps: float) -> Tensor:
        (output,) = kind.attack(batch, eps=list(eps))
        assert (output.extras["status"] == Status.BROKEN).all()
        return output.images

    small, large = attacked(0.4, 0.5)
    assert torch.equal(small, large)
    assert not torch.equal(attacked(0.5)[0], large)
    # What is found at the larger eps may lie outside the smaller one.
    larger_first = attacked(0.5, 0.4)
    assert ((larger_first[1] - images).abs() <= 0.4 + 1e-6).all()
    assert torch.equal(larger_first[1], small)


def test_mnist_small_int_at_02_has_the_known_states(shared: Path) -> None:
    """docs/certify.md: of the first 50 images of seed 99, .82 are certified, none is undecided.

    These 12 have images of each kind: 40, 45 and 48 need trees, 1, 6, 25 and 31 are broken.
    """
    path = shared / "released" / "networks" / "mnist_smallgap_int_100.pkl"
    checkpoint = read_released(path, "mnist", {"kind": "mnist"}, "small", "int")
    network = load_network(checkpoint, path)
    test = load({"kind": "mnist"}, shared / "datasets", "test")
    numbers = [0, 1, 2, 3, 4, 6, 25, 31, 40, 45, 48, 49]
    indices = np.random.RandomState(99).permutation(len(test))[numbers]
    images, labels = test.images[indices], test.labels[indices]
    proofs = list(certify_batch(network, images, labels, 0.2, leaves=1000))
    expected = dict.fromkeys(numbers, Status.CERTIFIED)
    expected |= dict.fromkeys([1, 6, 25, 31], Status.BROKEN) | {3: Status.MISCLASSIFIED}
    status = {number: proof.status for number, proof in zip(numbers, proofs, strict=True)}
    assert status == expected
    assert {n for n, proof in zip(numbers, proofs, strict=True) if proof.n_leaves} == {40, 45, 48}
