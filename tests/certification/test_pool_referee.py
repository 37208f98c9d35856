"""The exact minimum by HiGHS lies above the bounds of Pool, and tells bounds that are wrong."""

import dataclasses

import pytest
from pool_referee import PoolProblem, exact_minimum
from torch import Tensor

from irpipe.certification import pool_margins, pool_relaxation
from irpipe.certification.certificate import PoolCertificate
from irpipe.certification.certify import certify_image
from irpipe.certification.pool_network import PoolNetwork
from irpipe.certification.pool_relaxation import Lines
from irpipe.certification.recheck import CertificateChecker
from irpipe.certification.relaxation import Ball

EPS = 0.03
ROUNDING = 1e-4
SEED = 2


@pytest.fixture(scope="module")
def exact() -> float:
    return exact_minimum(PoolProblem(SEED, EPS)).value


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_bounds_rise_up_to_the_exact_minimum(seed: int) -> None:
    problem = PoolProblem(seed, EPS)
    exact = exact_minimum(problem)
    crown, bound = problem.lower(0), problem.lower(20)
    assert crown <= bound + ROUNDING
    assert bound <= exact.value + ROUNDING
    # The network has this margin at the program's image.
    assert float(problem.margin(exact.image)) == pytest.approx(exact.value, abs=1e-3)


def test_any_mu_gives_a_sound_bound(exact: float) -> None:
    problem = PoolProblem(SEED, EPS)
    image, label = problem.image, problem.label
    proof = certify_image(problem.network, image, label, EPS).certificate
    assert isinstance(proof, PoolCertificate)
    best = CertificateChecker(problem.network).margins(image, label, EPS, proof)[problem.target]
    moved = dataclasses.replace(proof, mu1=proof.mu1 + 0.1, mu2=proof.mu2 - 0.1)
    worse = CertificateChecker(problem.network).margins(image, label, EPS, moved)[problem.target]
    assert worse < best <= exact + ROUNDING


def test_the_referee_tells_weights_above_1(exact: float, monkeypatch: pytest.MonkeyPatch) -> None:
    levels_of = pool_margins.levels_of
    monkeypatch.setattr(pool_margins, "levels_of", lambda weights: 3 * levels_of(weights))
    assert PoolProblem(SEED, EPS).lower(20) > exact + 10 * ROUNDING


def test_the_referee_tells_maxima_without_their_offset(
    exact: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct = pool_relaxation._upper_lines

    def mutant(network: PoolNetwork, patches: Ball, mu1: Tensor) -> Lines:
        lines = correct(network, patches, mu1)
        return lines._replace(offset=(mu1.sum(dim=-1) * network.bias1[:, None]))

    monkeypatch.setattr(pool_relaxation, "_upper_lines", mutant)
    assert PoolProblem(SEED, EPS).lower(20) > exact + 10 * ROUNDING


def test_the_referee_tells_half_a_ball(exact: float) -> None:
    problem = PoolProblem(SEED, EPS)
    problem.ball = Ball(problem.ball.center, problem.ball.radius / 2)
    assert problem.lower(20) > exact + 10 * ROUNDING
