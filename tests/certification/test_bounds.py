"""Points within eps, sampled and attacked, lie within all bounds."""

import pytest
import torch
from random_networks import random_images, random_network
from small_referee import SHAPE, TinyProblem, tiny_image, tiny_network
from torch import Tensor

from irpipe.certification.counterexample import descend
from irpipe.certification.layer2_bounds import (
    crown_interval,
    layer2_interval,
    optimised_interval,
)
from irpipe.certification.margin_bounds import margin_bounds, margins_of
from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.relaxation import Interval, clipped_ball, layer1_interval
from irpipe.errors import IrpipeError

EPS = 0.1
SHAPES = [(1, 28, 28), (3, 32, 32), (2, 13, 18)]
ROUNDING = 1e-4


def points_in_ball(image: Tensor, n_points: int = 60) -> Tensor:
    """Corners of the ball, and points within it."""
    generator = torch.Generator().manual_seed(5)
    noise = 2 * torch.rand(n_points, *image.shape, generator=generator) - 1
    noise[::2] = noise[::2].sign()
    return (image + EPS * noise).clamp(0, 1)


def is_within(values: Tensor, interval: Interval) -> bool:
    above = values >= interval.lower - ROUNDING
    below = values <= interval.upper + ROUNDING
    return bool((above & below).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_patch_form_is_the_network(shape: tuple[int, int, int]) -> None:
    network = random_network("small", shape)
    images = random_images(shape, 3)
    patches = PatchNetwork(network.requires_grad_(False), shape)
    torch.testing.assert_close(patches.logits(images), network(images), atol=1e-5, rtol=1e-4)
    z1 = patches.layer1(images)
    receptive = patches.receptive.cut(images) @ patches.composed.t() + patches.patch_bias1
    expected = patches.hidden.cut(z1)[:, patches.is_inside]
    torch.testing.assert_close(receptive[:, patches.is_inside], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_adjoints_are_adjoint(shape: tuple[int, int, int]) -> None:
    patches = PatchNetwork(random_network("small", shape).requires_grad_(False).double(), shape)
    image = random_images(shape, 1).double()
    zero = torch.zeros_like(image)
    z1 = patches.layer1(image) - patches.layer1(zero)
    coefficients = torch.randn_like(z1)
    inner = (patches.layer1_adjoint(coefficients) * image).sum()
    torch.testing.assert_close(inner, (coefficients * z1).sum())
    hidden = torch.rand_like(z1)
    z2 = patches.layer2(hidden) - patches.layer2(torch.zeros_like(hidden))
    coefficients = torch.randn_like(z2)
    inner = (patches.layer2_adjoint(coefficients) * hidden).sum()
    torch.testing.assert_close(inner, (coefficients * z2).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_sampled_and_attacked_points_are_within_the_bounds(shape: tuple[int, int, int]) -> None:
    patches = PatchNetwork(random_network("small", shape).requires_grad_(False), shape)
    images = random_images(shape, 2)
    ball = clipped_ball(images, EPS)
    interval1 = layer1_interval(patches, ball)
    interval2, rows = layer2_interval(patches, ball, interval1)
    assert len(rows.alpha) > 0
    margins = margins_of(patches, torch.tensor([3, 4]))
    bounds = margin_bounds(patches, ball, interval1, interval2, margins)
    for i, image in enumerate(images):
        attacked = descend(
            patches,
            image,
            EPS,
            image.expand(9, -1, -1, -1),
            margins.coefficients[i],
            margins.constant[i],
            20,
        )
        points = torch.cat([points_in_ball(image), attacked.images])
        z1 = patches.layer1(points)
        z2 = patches.layer2(z1.relu())
        assert is_within(z1, Interval(*(tensor[i] for tensor in interval1)))
        assert is_within(z2, Interval(*(tensor[i] for tensor in interval2)))
        logits = patches.logits(points)
        true_logit = logits[:, [[3, 4][i]]]
        margin = true_logit - logits[:, margins.targets[i]]
        assert (margin >= bounds.lower[i] - ROUNDING).all()
        assert (attacked.margins >= bounds.lower[i] - ROUNDING).all()


def test_the_bounds_of_layer_1_are_reached() -> None:
    problem = TinyProblem(0, EPS)
    weight = problem.patches.conv1[1]
    corner = problem.ball.center.clone()
    signs = weight.sign() * problem.ball.radius[:, :, 1:5, 1:5]
    corner[:, :, 1:5, 1:5] += signs
    # The place (1, 1) of layer 1 sees pixels 1 to 4.
    reached = problem.patches.layer1(corner)[0, 1, 1, 1]
    torch.testing.assert_close(reached, problem.interval1.upper[0, 1, 1, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_crown_bounds_what_intervals_leave_open(shape: tuple[int, int, int]) -> None:
    """Intervals patch by patch, and CROWN as the search for alphas that takes no step."""
    patches = PatchNetwork(random_network("small", shape).requires_grad_(False), shape)
    ball = clipped_ball(random_images(shape, 2), EPS)
    interval1 = layer1_interval(patches, ball)
    positive, negative = patches.weight2.clamp(min=0).t(), patches.weight2.clamp(max=0).t()
    lowest, highest = (patches.hidden.cut(bound.clamp(min=0)) for bound in interval1)
    lower = lowest @ positive + highest @ negative + patches.bias2
    upper = highest @ positive + lowest @ negative + patches.bias2
    everywhere = Interval(torch.full_like(lower, -1e9), torch.full_like(lower, 1e9))
    crown, _ = optimised_interval(patches, ball, interval1, everywhere, 0)
    is_open = (lower < 0) & (upper > 0)
    assert is_open.any()
    expected = Interval(
        torch.where(is_open, torch.maximum(lower, crown.lower), lower),
        torch.where(is_open, torch.minimum(upper, crown.upper), upper),
    )
    found = crown_interval(patches, ball, interval1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_optimised_alphas_tighten_layer_2() -> None:
    problem = TinyProblem(0, EPS)
    crown = TinyProblem(0, EPS, optimise_layer2=False)
    assert (problem.interval2.lower >= crown.interval2.lower).all()
    assert (problem.interval2.upper <= crown.interval2.upper).all()
    width = (problem.interval2.upper - problem.interval2.lower).sum()
    assert width < 0.99 * (crown.interval2.upper - crown.interval2.lower).sum()


def test_bounds_that_are_high_enough_are_crowns() -> None:
    problem = TinyProblem(0, EPS)
    intervals = (problem.interval1, problem.interval2)
    arguments = (problem.patches, problem.ball, *intervals, problem.margins)
    crown = margin_bounds(*arguments, n_steps=0)
    torch.testing.assert_close(margin_bounds(*arguments, enough=-torch.inf), crown)
    nothing = problem.interval2.lower[:0]
    assert problem.patches.layer2_adjoint(nothing).shape == (0, 4, 4, 4)


def test_images_of_a_batch_have_the_bounds_that_they_have_alone() -> None:
    patches = PatchNetwork(tiny_network(1), SHAPE)
    images = torch.stack([tiny_image(seed) for seed in range(5)])
    labels = torch.tensor([0, 1, 2, 0, 1])

    def lower(part: slice) -> Tensor:
        ball = clipped_ball(images[part], EPS)
        interval1 = layer1_interval(patches, ball)
        interval2, _ = layer2_interval(patches, ball, interval1)
        margins = margins_of(patches, labels[part])
        return margin_bounds(patches, ball, interval1, interval2, margins).lower

    alone = torch.cat([lower(slice(i, i + 1)) for i in range(5)])
    torch.testing.assert_close(lower(slice(0, 5)), alone, atol=1e-4, rtol=1e-4)


def test_other_architectures_are_refused_in_one_line() -> None:
    network = random_network("wresnet", (3, 32, 32))
    with pytest.raises(
        IrpipeError, match=r"^certify: this network is not Small .*; only .* Pool .*$"
    ):
        PatchNetwork(network, (3, 32, 32))
