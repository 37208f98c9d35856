"""PGD against a plain loop and torchattacks: eps, step counts, step sizes, starts and dtypes."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from made_batches import DIGIT_SHAPE, make_batch, make_network
from torch import Tensor
from torch.nn import functional as F

from irpipe.attacks import AttackBatch, pgd

EPS = [0.003, 0.05, 0.3]


@pytest.fixture
def batch() -> AttackBatch:
    """Six random images with random labels; the network rarely classifies them correctly."""
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(6, *DIGIT_SHAPE, generator=generator)
    labels = torch.randint(10, (6,), generator=generator)
    return make_batch(make_network(99, DIGIT_SHAPE, 10), images, labels)


def plain_pgd(
    batch: AttackBatch, start: Tensor, eps: float, step_size: float, steps: int
) -> Tensor:
    """The released code's loop with the unfolded network, for one eps (C.4)."""
    point = start.clone()
    for _ in range(steps):
        point.requires_grad_()
        loss = F.cross_entropy(batch.network(point), batch.labels)
        gradient = torch.autograd.grad(loss, point)[0]
        point = point.detach() + step_size * gradient.sign()
        point = torch.min(torch.max(point, batch.images - eps), batch.images + eps).clamp(0, 1)
    return point


def assert_near(images: Tensor, expected: Tensor) -> None:
    """Equal up to rounding, except for 0.1% of the pixels.

    Folding the head may change the sign of a gradient that is nearly zero.
    """
    assert images.shape == expected.shape
    assert ((images - expected).abs() <= 1e-6).double().mean() >= 0.999


def test_pgd_equals_a_plain_loop_at_every_eps_and_step_count(batch: AttackBatch) -> None:
    outputs = list(pgd.attack(batch, eps=EPS, steps=[10, 1, 4]))
    assert [output.axis_value for output in outputs] == [1, 4, 10]
    for output in outputs:
        assert output.images.shape == (3, 6, *DIGIT_SHAPE)
        for eps, images in zip(EPS, output.images, strict=True):
            assert_near(images, plain_pgd(batch, batch.images, eps, 0.01, output.axis_value))
    distances = [
        (output.images - batch.images).abs().amax(dim=(1, 2, 3, 4)).tolist() for output in outputs
    ]
    # C.4 P2: k steps move at most 0.01 k.
    assert distances[0] == pytest.approx([0.003, 0.01, 0.01], abs=1e-6)
    assert distances[2] == pytest.approx([0.003, 0.05, 0.1], abs=1e-6)


@pytest.mark.parametrize(
    ("eps", "step_size", "stretches"),
    [
        # Half a step from the border of 0.1 after 9 steps, of 0.2 after 19.
        ([0.1, 0.3, 0.2], 0.01, [(9, [1, 1, 1]), (19, [0, 1, 1]), (200, [0, 1, 2])]),
        ([0.3, 0.3], 0.01, [(29, [0, 0]), (200, [0, 1])]),
        ([0.016, 0.4], 0.01, [(1, [1, 1]), (200, [0, 1])]),
        # After one step, 0.014 would be less than half a step away.
        ([0.0, 0.014, 5.0, 4.0], 0.01, [(200, [0, 1, 2, 2])]),
        ([0.1, 0.2], 0, [(200, [0, 1])]),
    ],
)
def test_eps_share_a_trajectory_until_the_smaller_ball_stops_it(
    eps: list[float], step_size: float, stretches: list[object]
) -> None:
    assert list(pgd._shared_trajectories(eps, step_size, 200)) == stretches


def test_sharing_trajectories_changes_no_image(
    batch: AttackBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"eps": [0.1, 0.02, 0.2, 0.0], "steps": [1, 5, 9, 12, 25]}
    shared = [output.images for output in pgd.attack(batch, **options)]

    def share_nothing(eps: list[float], step_size: float, last_step: int) -> Any:
        return iter([(last_step, [0, 1, 2, 3])])

    monkeypatch.setattr(pgd, "_shared_trajectories", share_nothing)
    for images, alone in zip(shared, pgd.attack(batch, **options), strict=True):
        assert_near(images, alone.images)


def test_pgd_equals_torchattacks(batch: AttackBatch) -> None:
    reference = torchattacks.PGD(batch.network, eps=0.05, alpha=0.02, steps=7, random_start=False)
    (output,) = pgd.attack(batch, eps=[0.05], steps=[7], step_size=0.02)
    assert_near(output.images[0], reference(batch.images, batch.labels))


def test_pgd_raises_the_loss(batch: AttackBatch) -> None:
    (output,) = pgd.attack(batch, eps=EPS, steps=[10])
    losses = [
        F.cross_entropy(batch.network(images), batch.labels).item()
        for images in (batch.images, *output.images)
    ]
    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.01


def test_step_size_factor_gives_each_step_count_a_trajectory(batch: AttackBatch) -> None:
    options: dict[str, Any] = {"step_size_factor": 2.5, "step_size": 9.0}
    outputs = list(pgd.attack(batch, eps=EPS, steps=[5, 1], **options))
    assert [output.axis_value for output in outputs] == [1, 5]
    for output in outputs:
        count = output.axis_value
        for eps, images in zip(EPS, output.images, strict=True):
            assert_near(images, plain_pgd(batch, batch.images, eps, 2.5 * eps / count, count))


def test_random_start_is_uniform_in_each_ball(batch: AttackBatch) -> None:
    rng = np.random.RandomState(11)
    noise = torch.from_numpy(rng.uniform(-1, 1, size=(6, 28, 28, 1)).transpose(0, 3, 1, 2)).float()
    expected = torch.stack([(batch.images + eps * noise).clamp(0, 1) for eps in EPS])
    (output,) = pgd.attack(batch, eps=EPS, steps=[1], step_size=1e-9, random_start=True)
    torch.testing.assert_close(output.images, expected, rtol=0, atol=1e-6)
    same = dataclasses.replace(batch, rng=np.random.RandomState(11))
    (output,) = pgd.attack(same, eps=EPS, steps=[3], random_start=True)
    for eps, start, images in zip(EPS, expected, output.images, strict=True):
        assert_near(images, plain_pgd(batch, start, eps, 0.01, 3))


def test_bfloat16_follows_the_gradient_of_the_rounded_network(batch: AttackBatch) -> None:
    rounded = copy.deepcopy(batch.network).bfloat16()
    variable = batch.images.bfloat16().requires_grad_()
    loss = F.cross_entropy(rounded(variable).float(), batch.labels)
    (gradient,) = torch.autograd.grad(loss, variable)
    (output,) = pgd.attack(batch, eps=[0.1], steps=[1], grad_dtype="bfloat16")
    (exact,) = pgd.attack(batch, eps=[0.1], steps=[1])
    assert output.images.dtype == torch.float32
    direction = (output.images[0] - batch.images).sign()
    is_at_end = (batch.images == 0) | (batch.images == 1)
    # Folding rounds elsewhere, so the sign of a gradient that is nearly zero may differ.
    assert ((direction == gradient.float().sign()) | is_at_end).float().mean() > 0.97
    assert not torch.equal(output.images, exact.images)


def test_float64_images_stay_float64(batch: AttackBatch) -> None:
    double = dataclasses.replace(batch, images=batch.images.double())
    (output,) = pgd.attack(double, eps=[0.1], steps=[1], step_size=1e-12)
    assert output.images.dtype == torch.float64
    distance = (output.images[0] - double.images).abs().max().item()
    assert distance == pytest.approx(1e-12, rel=1e-3)
