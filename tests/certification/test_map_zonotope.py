"""Changes of maps, sampled and exact, lie within the zonotope and below the l1 bound."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from random_networks import random_images, random_network
from small_referee import SHAPE, TinyProblem, exact_minimum, tiny_image, tiny_network
from torch import Tensor

from irpipe.certification import map_zonotope as module
from irpipe.certification import relaxation
from irpipe.certification.l1_bound import l1_bounds
from irpipe.certification.map_zonotope import MapNetwork, map_zonotope
from irpipe.certification.margin_bounds import Margins
from irpipe.certification.relaxation import Ball, Interval, Relaxation
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.network import Network

EPS = 0.05
SHAPES = [(3, 16, 16), (2, 13, 18)]


def directions(n_maps: int) -> Tensor:
    """Random directions in the space of changes of all maps, and those of single entries."""
    generator = torch.Generator().manual_seed(6)
    random = torch.randn(100, n_maps, generator=generator, dtype=torch.float64)
    positive = torch.cat([random, torch.eye(n_maps, dtype=torch.float64)])
    return torch.cat([positive, -positive])


def found_changes(network: Network, image: Tensor, eps: float) -> Tensor:
    """Changes `[n, classes u]` of the maps, at random points of the ball and at its corners.

    One corner is where the linear part of the zonotope reaches furthest, for each direction.
    """
    generators = map_zonotope(MapNetwork(network, image.shape), image, eps).generators.flatten(0, 1)
    pixels = generators[:, 1 : 1 + image.numel()]
    corners = (directions(len(pixels)) @ pixels).sign().view(-1, *image.shape)
    noise = 2 * torch.rand(50, *image.shape, generator=torch.Generator().manual_seed(5)) - 1
    points = (image + eps * torch.cat([corners, noise, noise.sign()])).clamp(0, 1)
    points = torch.cat([image[None].double(), points])
    exact = MapNetwork(network, image.shape).network
    maps = interpret(exact, points, "cam", variant="original").flatten(1)
    return maps[1:] - maps[0]


def excess(changes: Tensor, generators: Tensor) -> float:
    """How far `changes` lie outside a zonotope in some direction, at most."""
    generators = generators.flatten(0, 1)
    spread = directions(len(generators)) @ generators
    reach = spread[:, 0] + spread[:, 1:].abs().sum(dim=1)
    return float((changes @ directions(len(generators)).T - reach).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_zonotope_contains_found_changes(shape: tuple[int, int, int]) -> None:
    network = random_network("small", shape).requires_grad_(False)
    image = random_images(shape, 1)[0]
    zonotope = map_zonotope(MapNetwork(network, shape), image, 0.02)
    changes = found_changes(network, image, 0.02)
    assert excess(changes, zonotope.generators) <= 1e-9
    bounds = l1_bounds(zonotope.generators, 5)
    found = changes.view(len(changes), 10, -1).abs().sum(dim=2)
    assert (found <= bounds).all()


@pytest.mark.parametrize("seed", range(6))
def test_the_zonotope_of_tiny_networks_contains_found_changes(seed: int) -> None:
    network, image = tiny_network(seed), tiny_image(seed)
    for eps in (0.02, 0.3):
        zonotope = map_zonotope(MapNetwork(network, SHAPE), image, eps)
        assert excess(found_changes(network, image, eps), zonotope.generators) <= 1e-9


def half_ball(images: Tensor, eps: float) -> Ball:
    return relaxation.clipped_ball(images, eps / 2)


def wrong_intercept(interval: Interval) -> Relaxation:
    correct = relaxation.relax(interval)
    return correct._replace(intercept=-correct.intercept)


@pytest.mark.parametrize(
    ("name", "mutant"), [("clipped_ball", half_ball), ("relax", wrong_intercept)]
)
def test_found_changes_leave_a_wrong_zonotope(
    name: str, mutant: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = tiny_network(1), tiny_image(1)
    changes = found_changes(network, image, EPS)
    monkeypatch.setattr(module, name, mutant)
    generators = map_zonotope(MapNetwork(network, SHAPE), image, EPS).generators
    assert excess(changes, generators) > 0.01


@pytest.mark.parametrize("drops_pixels", [True, False])
def test_found_changes_leave_a_zonotope_without_some_generators(drops_pixels: bool) -> None:
    network, image = tiny_network(1), tiny_image(1)
    changes = found_changes(network, image, EPS)
    generators = map_zonotope(MapNetwork(network, SHAPE), image, EPS).generators
    center, pixels, errors = generators.tensor_split([1, 1 + image.numel()], dim=2)
    kept = errors if drops_pixels else pixels
    assert excess(changes, torch.cat([center, kept], dim=2)) > 0.01


class ExactMaximum:
    """The largest 1-class discrepancy of a tiny image: a linear program for each sign vector."""

    def __init__(self, seed: int, eps: float) -> None:
        problem = TinyProblem(seed, eps)
        self.network = MapNetwork(problem.network, SHAPE)
        self.label = problem.label
        self.image = problem.image
        rows = self.network.rows[problem.label].float()
        clean = self.maps(problem.image[None])[0]
        problem.k = 0
        self.value = 0.0
        for signs in product([-1.0, 1.0], repeat=len(rows)):
            sign = torch.tensor(signs)
            coefficients = -torch.einsum("i,ipk->pk", sign, rows)[None, None]
            targets = torch.zeros(1, 1, dtype=torch.long)
            problem.margins = Margins(targets, coefficients, torch.zeros(1, 1))
            exact = exact_minimum(problem)
            change = self.maps(exact.image)[0] - clean
            self.value = max(self.value, float(change.abs().sum()))

    def maps(self, images: Tensor) -> Tensor:
        maps = interpret(self.network.network, images.double(), "cam", variant="original")
        return maps[:, self.label].flatten(1)

    def bound(self, eps: float) -> float:
        generators = map_zonotope(self.network, self.image, eps).generators
        return float(l1_bounds(generators[self.label][None])[0])


@pytest.fixture(scope="module")
def exact() -> ExactMaximum:
    return ExactMaximum(2, EPS)


def test_the_l1_bound_lies_above_the_exact_maximum(exact: ExactMaximum) -> None:
    bound = exact.bound(EPS)
    assert exact.value <= bound < 1.5 * exact.value
    changes = exact.maps(sampled_images(exact.image)) - exact.maps(exact.image[None])
    assert float(changes.abs().sum(dim=1).max()) <= exact.value + 1e-6


def sampled_images(image: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    noise = (torch.rand(500, *image.shape, generator=generator) - 0.5).sign()
    return (image + EPS * noise).clamp(0, 1)


def test_the_exact_maximum_tells_half_a_ball(exact: ExactMaximum) -> None:
    assert exact.bound(EPS / 2) < exact.value


def test_the_l1_bound_is_exact_for_diagonal_and_rank_one_matrices() -> None:
    diagonal = torch.diag(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64))
    column = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    rank_one = torch.outer(column, torch.tensor([0.5, 3.0, -1.0], dtype=torch.float64))
    bounds = l1_bounds(torch.stack([diagonal, rank_one]))
    # |3| + |1| + |0.5|, and (1 + 2 + 4) (0.5 + 3 + 1).
    torch.testing.assert_close(
        bounds, torch.tensor([4.5, 31.5], dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_the_l1_bound_lies_between_the_maximum_over_corners_and_the_sum() -> None:
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(20, 5, 9, generator=generator, dtype=torch.float64)
    corners = torch.tensor(list(product([-1.0, 1.0], repeat=9)), dtype=torch.float64)
    exact = (matrices @ corners.T).abs().sum(dim=1).amax(dim=1)
    bounds = l1_bounds(matrices)
    assert (exact <= bounds).all()
    assert (bounds <= matrices.abs().sum(dim=(1, 2)) * (1 + 1e-8)).all()
    # Grothendieck's constant, below 1.79, limits how far the best scaling can be above.
    assert (bounds <= 1.2 * exact).all()
    # The sums of |G|, with which the steps begin, are worse.
    assert (bounds < l1_bounds(matrices, 0)).all()


def test_a_map_that_cannot_change_has_the_bound_zero() -> None:
    bounds = l1_bounds(torch.zeros(1, 3, 4, dtype=torch.float64))
    assert float(bounds[0]) == pytest.approx(0, abs=1e-9)
