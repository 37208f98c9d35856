"""`margin_pgd` on images of one pixel, by hand, and on a random network."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_small_batch
from torch import Tensor

from irpipe.attacks import AttackBatch, margin_pgd


class LinearClassifier:
    """Logits slope * (pixel - offset) of one-pixel images, with one slope per class."""

    def __init__(self, *slopes: float, offset: float = 0.0) -> None:
        self.slopes = torch.tensor(slopes)
        self.offset = offset

    def __call__(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.offset) * self.slopes


class PeakClassifier:
    """Logit 0.3 of class 0, and of class 1 a peak of 0.35 at the pixel value 0.5."""

    def __call__(self, images: Tensor) -> Tensor:
        peak = 0.35 - (images.flatten(1) - 0.5).abs()
        return torch.cat([torch.full_like(peak, 0.3), peak], dim=1)


class FixedNoise:
    """A generator whose uniform draws are given shares of eps."""

    def __init__(self, *shares: float) -> None:
        self.remaining = list(shares)

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        draws = [self.remaining.pop(0) for _ in range(int(np.prod(shape)))]
        return np.array(draws).reshape(shape)


def one_pixel_batch(network: Any, pixels: list[float], labels: list[int], rng: Any) -> AttackBatch:
    images = torch.tensor(pixels, dtype=torch.float64).view(-1, 1, 1, 1)
    return AttackBatch(network, network, images, torch.tensor(labels), np.arange(len(pixels)), rng)


def test_steps_fall_linearly_from_eps() -> None:
    # Class 0 is correct below 0.5. From 0.1 at eps 0.3, steps of 0.3, 0.2 and 0.1 reach the edge
    # of the ball at once.
    network = LinearClassifier(0.0, 1.0, offset=0.5)
    batch = one_pixel_batch(network, [0.1], [0], FixedNoise(-1.0))
    (output,) = margin_pgd.attack(batch, eps=[0.3], steps=[3], restarts=1)
    assert output.axis_value == 3
    assert output.images.item() == pytest.approx(0.4)
    assert output.extras["last_is_correct"].tolist() == [[True]]


@pytest.mark.parametrize(("n_steps", "end"), [(1, 0.3), (2, 0.4)])
def test_steps_from_the_lower_edge(n_steps: int, end: float) -> None:
    # From 0 the path is 0 + 0.3 = 0.3, then 0.3 + 0.15, which the ball stops at 0.4.
    network = LinearClassifier(0.0, 1.0, offset=0.5)
    batch = one_pixel_batch(network, [0.1], [0], FixedNoise())
    start = torch.zeros(1, 1, 1, 1).double()
    point, margin, is_correct = margin_pgd._margin_pgd(
        batch,
        "linf",
        n_steps,
        "margin",
        "last",
        start,
        batch.images,
        torch.tensor(0.3),
        batch.labels,
    )
    assert (point.item(), margin.item()) == pytest.approx((end, end - 0.5))
    assert is_correct.item()


def test_the_iterate_of_largest_margin_is_returned() -> None:
    # At eps 0.4 around 0.5 with the draw -0.9, the start is 0.14 and the steps are 0.4 and 0.2:
    # the first one lands at 0.54 beyond the peak (margin 0.01), the second one goes back to 0.34
    # (margin -0.11).
    path = [0.14 + 0.4, 0.54 - 0.2]
    batch = one_pixel_batch(PeakClassifier(), [0.5], [0], FixedNoise(-0.9))
    (output,) = margin_pgd.attack(batch, eps=[0.4], steps=[2], restarts=1)
    assert output.images.item() == pytest.approx(path[0])
    assert output.extras["last_is_correct"].tolist() == [[True]]
    batch = one_pixel_batch(PeakClassifier(), [0.5], [0], FixedNoise(-0.9))
    (output,) = margin_pgd.attack(batch, eps=[0.4], steps=[2], restarts=1, iterate="last")
    assert output.images.item() == pytest.approx(path[1])


def test_a_later_start_attacks_only_images_that_are_still_correct() -> None:
    # Above 0.45 an image is misclassified. The first start takes both images up; only the one
    # at 0.1 stays correct (at 0.4) and is attacked again.
    network = LinearClassifier(0.0, 1.0, offset=0.45)
    rng = FixedNoise(0.0, 0.0, 0.5, 0.5)
    batch_sizes = []

    def spy(images: Tensor) -> Tensor:
        batch_sizes.append(len(images))
        return network(images)

    batch = one_pixel_batch(network, [0.1, 0.4], [0, 0], rng)
    batch = dataclasses.replace(batch, folded=spy)  # type: ignore[arg-type]
    (output,) = margin_pgd.attack(batch, eps=[0.3], steps=[1], restarts=2)
    assert output.images.flatten().tolist() == pytest.approx([0.4, 0.7])
    # The gradient at the clean images comes first, then a step and a margin for each start.
    assert batch_sizes == [2, 2, 2, 1, 1]
    assert not rng.remaining  # the number of draws does not depend on success


def test_grad_linf_is_that_of_each_images_own_cross_entropy() -> None:
    # Logits 0 and 4x: the loss of class 0 has the slope 4 p1 with p1 = 1 / (1 + e^-4x).
    batch = one_pixel_batch(LinearClassifier(0.0, 4.0), [0.0, 0.5], [0, 0], FixedNoise(0.0, 0.0))
    (output,) = margin_pgd.attack(batch, eps=[0.1, 0.2], steps=[1], restarts=1)
    expected = [4 / 2, 4 / (1 + np.exp(-2))]
    np.testing.assert_allclose(output.extras["grad_linf"], [expected, expected], rtol=1e-6)


@pytest.mark.parametrize(("loss", "end"), [("margin", 0.4), ("cross_entropy", 0.2)])
def test_cross_entropy_loses_its_gradient_where_the_margin_keeps_it(loss: Any, end: float) -> None:
    # Logits 0 and 1000 (x - 0.5): at 0.2 the gradient of the cross-entropy is 1000 e^-300, which
    # is 0 in float32.
    network = LinearClassifier(0.0, 1000.0, offset=0.5)
    batch = one_pixel_batch(network, [0.2], [0], FixedNoise(0.0))
    (output,) = margin_pgd.attack(batch, eps=[0.2], steps=[1], restarts=1, loss=loss)
    assert output.images.item() == pytest.approx(end)
    assert output.extras["grad_linf"].item() == 0


def test_more_starts_never_leave_more_images_correct() -> None:
    is_correct = []
    for restarts in (1, 4):
        batch = dataclasses.replace(make_small_batch(), rng=np.random.RandomState(5))
        eps = [0.0, 0.01, 0.03, 0.1]
        arrays = evaluate_attack(batch, margin_pgd, eps, steps=[1, 5], restarts=restarts)
        is_correct.append(arrays["correct"])
        assert not arrays["correct"][0].any()
        assert (arrays["correct"] <= arrays["last_is_correct"])[1:, 1:].all()
    assert (is_correct[1] <= is_correct[0]).all()
    first = is_correct[0]
    assert first[:, 0].sum() > first[:, 1].sum() > first[:, 3].sum()
