"""Proofs for Pool: states, certificates, and what the check refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pool_referee import SHAPE, tiny_pool
from small_referee import tiny_network

from irpipe.certification.certificate import Certificate, PoolCertificate
from irpipe.certification.certify import certify_batch, certify_image
from irpipe.certification.counterexample import descend
from irpipe.certification.margin_bounds import margins_of
from irpipe.certification.pool_margins import bound_margins
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.pool_relaxation import relax_pool
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.relaxation import clipped_ball
from irpipe.certification.status import Status
from irpipe.datasets import load
from irpipe.errors import IrpipeError
from irpipe.networks.load import load_network
from irpipe.networks.released import read_released

NETWORK = tiny_pool(2)
IMAGE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))
LABEL = int(NETWORK(IMAGE[None]).argmax())
EPS = 0.02
ROUNDING = 1e-4


def certificate() -> PoolCertificate:
    proof = certify_image(NETWORK, IMAGE, LABEL, EPS).certificate
    assert isinstance(proof, PoolCertificate)
    return proof


def margins(proof: Certificate, eps: float = EPS) -> dict[int, float]:
    return CertificateChecker(NETWORK).margins(IMAGE, LABEL, eps, proof)


def with_first_proof(proof: PoolCertificate, **arrays: Any) -> PoolCertificate:
    first = dataclasses.replace(proof.proofs[0], **arrays)
    return dataclasses.replace(proof, proofs=(first, *proof.proofs[1:]))


@pytest.mark.parametrize("shape", [SHAPE, (2, 13, 18), (3, 12, 9)])
def test_points_lie_within_the_bounds_and_the_check_finds_the_same(
    shape: tuple[int, int, int],
) -> None:
    network = tiny_pool(5, shape)
    generator = torch.Generator().manual_seed(6)
    image = torch.rand(shape, generator=generator)
    label = int(network(image[None]).argmax())
    pool = PoolNetwork(network, shape)
    ball = clipped_ball(image[None], 0.05)
    relaxation = relax_pool(pool, ball)
    all_margins = margins_of(pool, torch.tensor([label]))
    bounds = bound_margins(pool, ball, relaxation, all_margins)
    noise = 2 * torch.rand(60, *shape, generator=generator) - 1
    noise[::2] = noise[::2].sign()
    points = ball.center + noise * ball.radius
    patches = pool.pixels.cut(points)[:, None]
    above = (relaxation.upper1.slopes * patches).sum(dim=-1) + relaxation.upper1.offset
    assert (pool.hidden_at(points) <= above + ROUNDING).all()
    logits = network(points)
    targets = all_margins.targets[0]
    sampled = logits[:, [label]] - logits[:, targets]
    assert (sampled >= bounds.lower[0] - ROUNDING).all()
    starts = image.expand(len(targets), *shape)
    rows = (all_margins.coefficients[0], all_margins.constant[0])
    attacked = descend(pool, image, 0.05, starts, *rows, 20)
    assert (attacked.margins >= bounds.lower[0] - ROUNDING).all()
    proof = certify_image(network, image, label, 0.05).certificate
    checked = CertificateChecker(network).margins(image, label, 0.05, proof)
    expected = dict(zip(targets.tolist(), bounds.lower[0].tolist(), strict=True))
    assert checked == pytest.approx(expected, abs=1e-3)


def test_the_four_states() -> None:
    certified = certify_image(NETWORK, IMAGE, LABEL, 0.002)
    assert (certified.status, certified.n_leaves) == (Status.CERTIFIED, 0)
    broken = certify_image(NETWORK, IMAGE, LABEL, 0.5)
    assert broken.status == Status.BROKEN
    assert broken.adversarial is not None
    assert int(NETWORK(broken.adversarial[None]).argmax()) == broken.hardest_target != LABEL
    wrong = (LABEL + 1) % 3
    misclassified = certify_image(NETWORK, IMAGE, wrong, 0.002)
    assert (misclassified.status, misclassified.hardest_target) == (Status.MISCLASSIFIED, LABEL)


def test_a_descent_ends_once_a_margin_is_low_enough() -> None:
    pool = PoolNetwork(NETWORK, SHAPE)
    rows = margins_of(pool, torch.tensor([LABEL]))
    arguments = (pool, IMAGE, 0.5, IMAGE.expand(2, *SHAPE))
    rows = (rows.coefficients[0], rows.constant[0])
    clean = pool.margins(IMAGE.expand(2, *SHAPE), *rows)[0]
    stopped = descend(*arguments, *rows, 20, enough=float(clean.min()) + 0.01)
    assert torch.equal(stopped.images, IMAGE.expand(2, *SHAPE))
    assert torch.equal(stopped.margins, clean)
    assert (descend(*arguments, *rows, 20).margins < clean - 0.5).all()


def test_an_image_that_is_known_to_be_misclassified_is_not_searched_for() -> None:
    images, labels = torch.stack([IMAGE, IMAGE]), torch.tensor([LABEL, LABEL])
    known = certify_image(NETWORK, IMAGE, LABEL, 0.4).adversarial
    assert known is not None
    first, second = certify_batch(NETWORK, images, labels, 0.5, seeds=[0, 0], known={1: known})
    assert first.adversarial is not None
    assert second.adversarial is known
    assert not torch.equal(first.adversarial, known)
    assert first.status == second.status == Status.BROKEN
    assert first.margin_lower_bound == second.margin_lower_bound


def test_a_certificate_survives_bytes() -> None:
    content = certificate().to_bytes()
    read = Certificate.from_bytes(content)
    assert isinstance(read, PoolCertificate)
    assert read.to_bytes() == content
    assert margins(read) == margins(certificate())
    arrays = certificate().to_arrays()
    del arrays["proof0_lambda2"]
    with pytest.raises(IrpipeError, match="certificate: has no array 'proof0_lambda2'"):
        Certificate.from_arrays(arrays)


def test_weights_outside_their_limits_are_refused() -> None:
    proof = certificate()
    first = proof.proofs[0]
    above = np.full_like(first.lambda1, 64)
    with pytest.raises(IrpipeError, match=r"target \d: lambda1 has weights with a sum above 1"):
        margins(with_first_proof(proof, lambda1=above))
    with pytest.raises(IrpipeError, match="certificate: lambda1 is int16; expected uint8"):
        margins(dataclasses.replace(proof, lambda1=-proof.lambda1.astype(np.int16)))
    with pytest.raises(IrpipeError, match=r"target \d: lambda2 has weights whose sum is not 1"):
        margins(with_first_proof(proof, lambda2=first.lambda2 // 2))
    with pytest.raises(IrpipeError, match="certificate: mu has values that are not finite"):
        margins(dataclasses.replace(proof, mu1=np.full_like(proof.mu1, np.inf)))


def test_weights_of_another_shape_are_refused() -> None:
    """Four weights of 1 are each the sum of a row of one; of one maximum, they sum to 4."""
    proof = certificate()
    first = proof.proofs[0]
    ones = np.full((*first.lambda1.shape[:2], 4), 255, np.uint8)
    column = ones.reshape(len(ones), -1, 1)
    with pytest.raises(IrpipeError, match=r"has weights of shape \(2, 32, 1\); expected \(2, 8, 4"):
        margins(with_first_proof(proof, lambda1=column))
    with pytest.raises(IrpipeError, match=r"has weights of shape \(2, 32, 1\); expected \(2, 8, 4"):
        margins(dataclasses.replace(proof, lambda1=column))
    ones = np.full((first.lambda2.size, 1, 1), 255, np.uint8)
    with pytest.raises(IrpipeError, match=r"has weights of shape \(24, 1, 1\); expected \(2, 3, 4"):
        margins(with_first_proof(proof, lambda2=ones))


def test_bounds_that_overflow_prove_nothing() -> None:
    proof = certificate()
    # the bounds contain products of both, which no rounding keeps finite
    large = {name: np.full(getattr(proof, name).shape, 1e200) for name in ("mu1", "mu2")}
    forged = dataclasses.replace(proof, **large)
    assert set(margins(forged).values()) == {-np.inf}


def test_a_certificate_of_another_eps_or_architecture_is_refused() -> None:
    with pytest.raises(IrpipeError, match=r"is for eps 0.02, which is less than 0.04"):
        margins(certificate(), 0.04)
    image = torch.rand(1, 8, 8)
    small = certify_image(tiny_network(1), image, 0, 0.001).certificate
    with pytest.raises(IrpipeError, match="is for the architecture Small; the network is another"):
        CertificateChecker(NETWORK).margins(image, 0, 0.001, small)
    with pytest.raises(IrpipeError, match="is for the architecture Pool; the network is another"):
        CertificateChecker(tiny_network(1)).margins(IMAGE, LABEL, EPS, certificate())


def test_no_attack_beats_the_certificates_of_mnist_pool_int(shared: Path) -> None:
    """The first image of seed 99 is certified at .05."""
    path = shared / "released" / "networks" / "mnist_pool_int_100.pkl"
    network = load_network(read_released(path, "mnist", {"kind": "mnist"}, "pool", "int"), path)
    test = load({"kind": "mnist"}, shared / "datasets", "test")
    index = int(np.random.RandomState(99).permutation(len(test))[0])
    image, label = test.images[index].float(), int(test.labels[index])
    proof = certify_image(network, image, label, 0.05)
    assert proof.status == Status.CERTIFIED
    assert proof.margin_lower_bound > 0.9
    pool = PoolNetwork(network, image.shape)
    all_margins = margins_of(pool, torch.tensor([label]))
    rows = (all_margins.coefficients[0], all_margins.constant[0])
    attacked = descend(pool, image, 0.05, image.expand(9, -1, -1, -1), *rows, 40)
    assert float(attacked.margins.min()) > proof.margin_lower_bound
