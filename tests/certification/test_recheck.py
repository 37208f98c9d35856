"""Certificates are checked again in float64; wrong ones are refused or prove less."""

import ast
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_referee import TinyProblem, exact_minimum, tiny_image, tiny_network
from torch import Tensor

from irpipe.certification import (
    recheck,
    recheck_architecture,
    recheck_limits,
    recheck_network,
    recheck_pool,
    recheck_small,
)
from irpipe.certification.certificate import MIN_MARGIN, Certificate
from irpipe.certification.certify import certify_image
from irpipe.certification.cover import covers
from irpipe.certification.image_proof import ImageProof, image_proof
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.status import Status
from irpipe.errors import IrpipeError
from irpipe.networks.network import Network

CHECK = (
    recheck,
    recheck_architecture,
    recheck_limits,
    recheck_network,
    recheck_pool,
    recheck_small,
)
SEED, EPS = 6, 0.08
NETWORK, IMAGE = tiny_network(SEED), tiny_image(SEED)


class ChangesItsMind:
    """A network that is another one for all images but IMAGE."""

    def __init__(self, network: Network, other: Network) -> None:
        self.networks = {True: network, False: other}

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.networks[torch.equal(images[0], IMAGE)](images)


@pytest.fixture(scope="module")
def proof() -> ImageProof:
    """A certified image, one of whose targets needed a tree."""
    label = int(NETWORK(IMAGE[None]).argmax())
    proof = certify_image(NETWORK, IMAGE, label, EPS, leaves=100)
    assert proof.status == Status.CERTIFIED
    assert proof.n_leaves > 8
    return proof


def margins(certificate: Certificate, eps: float = EPS) -> dict[int, float]:
    return CertificateChecker(NETWORK).margins(IMAGE, certificate.label, eps, certificate)


def with_tree(certificate: Certificate, **arrays: Any) -> Certificate:
    """The certificate with other arrays in its first proof that has a tree."""
    proofs = list(certificate.proofs)
    number = next(i for i, tree in enumerate(proofs) if tree.E.size)
    proofs[number] = dataclasses.replace(proofs[number], **arrays)
    return dataclasses.replace(certificate, proofs=tuple(proofs))


def tree_of(certificate: Certificate) -> Any:
    return next(tree for tree in certificate.proofs if tree.E.size)


def test_the_certificate_proves_the_bound_and_no_more_than_is_true(proof: ImageProof) -> None:
    bounds = margins(proof.certificate)
    assert min(bounds.values()) == proof.margin_lower_bound > MIN_MARGIN
    problem = TinyProblem(SEED, EPS)
    exact = exact_minimum(problem).value
    assert bounds[problem.target] <= exact + 1e-4
    assert bounds[problem.target] > exact - 0.25


def test_a_certificate_survives_bytes(proof: ImageProof) -> None:
    content = proof.certificate.to_bytes()
    certificate = Certificate.from_bytes(content)
    assert margins(certificate) == margins(proof.certificate)
    assert certificate.to_bytes() == content
    arrays = proof.certificate.to_arrays()
    del arrays["proof0_gamma"]
    with pytest.raises(IrpipeError, match="certificate: has no array 'proof0_gamma'"):
        Certificate.from_arrays(arrays)


def test_an_image_that_contradicts_its_proof_is_an_error(proof: ImageProof) -> None:
    """A network with a negative head predicts another class; the checker has the right one."""
    wrong = tiny_network(SEED)
    wrong.head.neg_()
    checker = CertificateChecker(NETWORK)
    for network, adversarial in ((wrong, None), (ChangesItsMind(NETWORK, wrong), IMAGE + 0.01)):
        with pytest.raises(RuntimeError, match=r"within 0.08 is classified as \d, but a margin of"):
            image_proof(
                network,  # type: ignore[arg-type]
                checker,
                IMAGE,
                proof.certificate,
                adversarial,
                0.0,
            )


def test_a_beta_of_the_wrong_sign_is_refused(proof: ImageProof) -> None:
    tree = tree_of(proof.certificate)
    for name, signs in (("dual1", tree.sign1), ("dual2", tree.sign2)):
        dual = getattr(tree, name)
        assert (signs != 0).any()
        negated = np.where(signs != 0, -dual - np.float16(0.1), dual)
        mutant = with_tree(proof.certificate, **{name: negated})
        with pytest.raises(IrpipeError, match=f"{name} has a value outside its limits"):
            margins(mutant)


def test_an_alpha_above_1_is_refused(proof: ImageProof) -> None:
    tree = tree_of(proof.certificate)
    mutant = with_tree(proof.certificate, dual2=np.where(tree.sign2 == 0, 1.5, tree.dual2))
    with pytest.raises(IrpipeError, match="dual2 has a value outside its limits"):
        margins(mutant)
    for gamma in (tree.gamma + 1, np.full_like(tree.gamma, np.nan)):
        mutant = with_tree(proof.certificate, gamma=gamma)
        with pytest.raises(IrpipeError, match="gamma has a value outside its limits"):
            margins(mutant)
    alpha = np.full(proof.certificate.alpha.shape, np.nan)
    with pytest.raises(IrpipeError, match="alpha is float64; expected uint8"):
        margins(dataclasses.replace(proof.certificate, alpha=alpha))


def test_a_sign_stands_for_one_neuron(proof: ImageProof) -> None:
    tree = tree_of(proof.certificate)
    with pytest.raises(IrpipeError, match=r"sign2 has shape \(\d+, 1\); expected \(\d+, 4\)"):
        margins(with_tree(proof.certificate, sign2=tree.sign2[:, :1]))


def test_a_split_of_padding_proves_no_more(proof: ImageProof) -> None:
    """Entry 0 of place 0 is padding, so it is 0. If it were z, the multiplier would lift z."""
    tree = tree_of(proof.certificate)
    leaves = np.flatnonzero(tree.place == 0)[[0, 0]]
    arrays = {
        name: np.concatenate([getattr(tree, name)[leaves], getattr(tree, name)[tree.place > 0]])
        for name in ("place", "sign1", "sign2", "dual1", "dual2")
    }
    arrays["sign1"][:2], arrays["sign2"][:2] = 0, 0
    arrays["sign1"][:2, 0] = 1, -1
    arrays["dual1"][:2, 0] = 0
    bound = margins(with_tree(proof.certificate, **arrays))[int(tree.target)]
    E = tree.E.copy()
    E[0, 0] -= 100
    lifted = with_tree(proof.certificate, **arrays, E=E)
    assert margins(lifted)[int(tree.target)] == bound


def test_a_dropped_leaf_is_refused(proof: ImageProof) -> None:
    tree = tree_of(proof.certificate)
    names = ("place", "sign1", "sign2", "dual1", "dual2")
    for leaf in range(len(tree.place)):
        remaining = {name: np.delete(getattr(tree, name), leaf, axis=0) for name in names}
        with pytest.raises(IrpipeError, match=f"leaves of place {tree.place[leaf]} do not cover"):
            margins(with_tree(proof.certificate, **remaining))


def test_half_an_interval_is_refused_or_proves_nothing(proof: ImageProof) -> None:
    label = proof.certificate.label
    half = certify_image(NETWORK, IMAGE, label, EPS / 2)
    with pytest.raises(IrpipeError, match=r"is for eps 0.04, which is less than 0.08"):
        margins(half.certificate)
    wide = certify_image(NETWORK, IMAGE, label, EPS, leaves=1)
    forged = dataclasses.replace(wide.certificate, eps=3 * EPS)
    assert min(margins(forged, 3 * EPS).values()) < 0


def test_another_label_and_missing_targets_are_refused(proof: ImageProof) -> None:
    certificate = proof.certificate
    with pytest.raises(IrpipeError, match="certificate: is for label"):
        CertificateChecker(NETWORK).margins(IMAGE, certificate.label + 1, EPS, certificate)
    fewer = dataclasses.replace(certificate, proofs=certificate.proofs[:1])
    with pytest.raises(IrpipeError, match=r"certificate: proves targets \[\d\]; expected"):
        margins(fewer)


def test_another_network_gets_other_bounds(proof: ImageProof) -> None:
    certificate = proof.certificate
    checker = CertificateChecker(tiny_network(SEED + 1))
    other = checker.margins(IMAGE, certificate.label, EPS, certificate)
    assert min(other.values()) < 0


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        ([[0, 0]], True),
        ([[1, 0]], False),
        ([[1, 0], [-1, 0]], True),
        ([[1, 0], [-1, 1], [-1, -1]], True),
        ([[1, 0], [-1, 1]], False),
        ([[1, 0], [1, 0], [-1, 0]], False),
        ([[1, 1], [1, -1], [-1, 1]], False),
        ([], False),
    ],
)
def test_leaves_of_a_tree_cover(signs: list[list[int]], expected: bool) -> None:
    assert covers(np.array(signs, dtype=np.int8).reshape(-1, 2)) is expected


def test_the_check_imports_nothing_of_the_search() -> None:
    modules: set[str | None] = set()
    for module in CHECK:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    of_package = {name for name in modules if name and name.startswith("irpipe")}
    assert of_package == {
        "irpipe.certification.certificate",
        "irpipe.certification.cover",
        "irpipe.certification.recheck_architecture",
        "irpipe.certification.recheck_limits",
        "irpipe.certification.recheck_network",
        "irpipe.certification.recheck_pool",
        "irpipe.certification.recheck_small",
        "irpipe.errors",
        "irpipe.networks.input_conv",
        "irpipe.networks.max_pool",
        "irpipe.networks.network",
    }
