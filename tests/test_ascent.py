"""Gradient ascent by hand, PGD against plain loops and torchattacks, and the evaluator's distrust of attacks."""

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor
from torch.nn import functional as F

import irpipe.attacks.pgd
from irpipe import evaluate
from irpipe.ascent import Case, ascend, noise, sign_steps
from irpipe.attacks import Outcome
from irpipe.models import Folded, Network, build
from irpipe.optimise import draw_weights

SHAPE = (1, 28, 28)
RADII = [0.003, 0.05, 0.3]


def pixel(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=dtype)


# --- the loop, by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "slope", "path"),
    [
        (0.5, 3.0, [0.6, 0.7, 0.75, 0.75]),  # held by the radius
        (0.5, -0.1, [0.4, 0.3, 0.25, 0.25]),
        (0.85, 1.0, [0.95, 1.0, 1.0, 1.0]),  # held by 1
        (0.05, -1.0, [0.0, 0.0, 0.0, 0.0]),  # held by 0
        (0.5, 0.0, [0.5, 0.5, 0.5, 0.5]),  # no slope, no step
    ],
)
def test_one_pixel_by_hand(start: float, slope: float, path: list[float]) -> None:
    update = sign_steps(pixel(start), 0.25, 0.1)
    found = [point.item() for point in ascend(pixel(start), lambda image: slope * image.sum(), update, 4)]
    assert found == pytest.approx(path, abs=1e-8)  # a step is float32, as in the released code


def test_ascent_follows_the_gradient_at_the_point_not_at_the_start() -> None:
    # -|x - .62| from .5 in steps of .1: up to .6 and .7, past the top, and back and forth.
    path = ascend(pixel(0.5), lambda image: -(image - 0.62).abs().sum(), sign_steps(pixel(0.5), 0.5, 0.1), 5)
    assert [point.item() for point in path] == pytest.approx([0.6, 0.7, 0.6, 0.7, 0.6], abs=1e-8)


def test_radius_and_step_may_differ_from_image_to_image() -> None:
    images = torch.full((2, 2, 1, 1, 1), 0.5, dtype=torch.float64)  # [E, N, C, H, W]
    radii = torch.tensor([0.1, 0.4], dtype=torch.float64).view(-1, 1, 1, 1, 1)
    update = sign_steps(images, radii, 2 * radii / 3)
    found = torch.stack(list(ascend(images, torch.sum, update, 2))).flatten(1)
    expected = [[0.5 + 0.2 / 3] * 2 + [0.5 + 0.8 / 3] * 2, [0.6] * 2 + [0.9] * 2]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_one_clip_is_the_released_codes_two() -> None:
    rng = np.random.default_rng(5)
    centre = rng.uniform(size=(64, 1, 8, 8)).astype(np.float32)
    centre[:4] = rng.integers(0, 2, size=(4, 1, 8, 8))  # at the ends, too
    point, gradient = rng.uniform(size=centre.shape), rng.normal(size=centre.shape).astype(np.float32)
    for radius in (0.0, 8 / 255, 0.3, 1.0):
        moved = point + 0.01 * np.sign(gradient)  # float64 plus float32, as there
        ours = sign_steps(torch.from_numpy(centre), radius, 0.01)(torch.from_numpy(point), torch.from_numpy(gradient))
        theirs = np.clip(np.clip(moved, centre - np.float32(radius), centre + np.float32(radius)), 0, 1)
        assert ours.dtype == torch.float64
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-7)
        assert not np.array_equal(ours.numpy(), moved)  # something was clipped


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_keep_their_precision_and_the_objective_sees_float32(dtype: torch.dtype) -> None:
    seen = []

    def objective(image: Tensor) -> Tensor:
        seen.append((image.dtype, image.item()))
        return image.sum()

    start = pixel(0.1, dtype) + 2.0**-40  # which float32 cannot hold
    points = list(ascend(start, objective, sign_steps(start, 0.3, 2.0**-45), 3))
    assert {point.dtype for point in points} == {dtype}
    assert seen == [(torch.float32, float(np.float32(0.1)))] * 3
    if dtype == torch.float64:
        steps = [round((point - start).item() * 2**45) for point in points]
        assert steps == [1, 2, 3]
    assert not any(point.requires_grad for point in points)


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_noise_is_drawn_in_the_released_codes_order(kind: Literal["uniform", "gaussian"]) -> None:
    like, theirs = torch.zeros(2, 3, 4, 5), np.random.RandomState(99)
    expected = (
        theirs.uniform(-0.3, 0.3, size=(2, 4, 5, 3)) if kind == "uniform" else theirs.normal(0, 1e-3, (2, 4, 5, 3))
    )
    found = noise(np.random.RandomState(99), kind, 0.3, like)
    assert (found.dtype, found.shape) == (torch.float64, like.shape)
    for i, c, h, w in np.ndindex(*like.shape):
        assert found[i, c, h, w].item() == pytest.approx(expected[i, h, w, c], rel=1e-14)


# --- PGD -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> Network:
    made = build("small", SHAPE, 10)
    draw_weights(made, np.random.RandomState(99))
    return made.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def case(network: Network) -> Case:
    generator = torch.Generator().manual_seed(4)
    images, labels = torch.rand(6, *SHAPE, generator=generator), torch.randint(10, (6,), generator=generator)
    return Case(network, Folded(network, SHAPE), images, labels, np.arange(6), np.random.RandomState(11))


def plain(case: Case, start: Tensor, eps: float, step: float, steps: int) -> Tensor:
    """The released code's loop with the network as it is, one radius at a time (C.4)."""
    moved = start.clone()
    for _ in range(steps):
        moved.requires_grad_()
        loss = F.cross_entropy(case.network(moved), case.labels)
        gradient = torch.autograd.grad(loss, moved)[0]
        moved = moved.detach() + step * gradient.sign()
        moved = torch.min(torch.max(moved, case.images - eps), case.images + eps).clamp(0, 1)
    return moved


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Equal up to rounding; folding the head may turn the sign of a gradient that is nearly zero, hence .1%."""
    assert found.shape == expected.shape
    assert ((found - expected).abs() <= 1e-6).double().mean() >= 0.999


def test_pgd_equals_a_plain_loop_at_every_radius_and_step_count(case: Case) -> None:
    found = [outcome[:2] for outcome in irpipe.attacks.pgd.attack(case, eps=RADII, steps=[10, 1, 4])]
    assert [count for count, _ in found] == [1, 4, 10]
    for count, images in found:
        assert images.shape == (3, 6, *SHAPE)
        for eps, ours in zip(RADII, images, strict=True):
            assert_near(ours, plain(case, case.images, eps, 0.01, count))
    reach = [(images - case.images).abs().amax(dim=(1, 2, 3, 4)).tolist() for _, images in found]
    assert reach[0] == pytest.approx([0.003, 0.01, 0.01], abs=1e-6)  # C.4 P2
    assert reach[2] == pytest.approx([0.003, 0.05, 0.1], abs=1e-6)


@pytest.mark.parametrize(
    ("eps", "step", "legs"),
    [
        # half a step from the border of 0.1 after 9 steps, of 0.2 after 19
        ([0.1, 0.3, 0.2], 0.01, [(9, [1, 1, 1]), (19, [0, 1, 1]), (200, [0, 1, 2])]),
        ([0.3, 0.3], 0.01, [(29, [0, 0]), (200, [0, 1])]),
        ([0.016, 0.4], 0.01, [(1, [1, 1]), (200, [0, 1])]),
        ([0.0, 0.014, 5.0, 4.0], 0.01, [(200, [0, 1, 2, 2])]),  # 0.014 is less than half a step behind the first
        ([0.1, 0.2], 0, [(200, [0, 1])]),
    ],
)
def test_radii_share_their_steps_until_they_part(eps: list[float], step: float, legs: list[object]) -> None:
    assert list(irpipe.attacks.pgd._legs(eps, step, 200)) == legs


def test_shared_steps_change_no_image(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"eps": [0.1, 0.02, 0.2, 0.0], "steps": [1, 5, 9, 12, 25]}
    shared = [outcome.images for outcome in irpipe.attacks.pgd.attack(case, **options)]
    monkeypatch.setattr(irpipe.attacks.pgd, "_legs", lambda eps, step, last: iter([(last, [0, 1, 2, 3])]))
    for found, alone in zip(shared, irpipe.attacks.pgd.attack(case, **options), strict=True):
        assert_near(found, alone.images)


def test_pgd_equals_torchattacks(case: Case) -> None:
    theirs = torchattacks.PGD(case.network, eps=0.05, alpha=0.02, steps=7, random_start=False)
    ((_, ours, *_),) = irpipe.attacks.pgd.attack(case, eps=[0.05], steps=[7], step_size=0.02)
    assert_near(ours[0], theirs(case.images, case.labels))


def test_pgd_raises_the_loss(case: Case) -> None:
    ((_, moved, *_),) = irpipe.attacks.pgd.attack(case, eps=RADII, steps=[10])
    losses = [F.cross_entropy(case.network(images), case.labels).item() for images in (case.images, *moved)]
    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.01


def test_relative_steps_make_a_trajectory_of_each_count(case: Case) -> None:
    made = irpipe.attacks.pgd.attack(case, eps=RADII, steps=[5, 1], relative=2.5, step_size=9.0)
    found = [outcome[:2] for outcome in made]
    assert [count for count, _ in found] == [1, 5]
    for count, images in found:
        for eps, ours in zip(RADII, images, strict=True):
            assert_near(ours, plain(case, case.images, eps, 2.5 * eps / count, count))


def test_random_start_is_uniform_within_each_radius(case: Case) -> None:
    drawn = np.random.RandomState(11).uniform(-1, 1, size=(6, 28, 28, 1)).transpose(0, 3, 1, 2)
    unit = torch.from_numpy(drawn).float()
    fresh = Case(case.network, case.folded, case.images, case.labels, case.index, np.random.RandomState(11))
    ((_, found, *_),) = irpipe.attacks.pgd.attack(fresh, eps=RADII, steps=[1], step_size=1e-9, random_start=True)
    expected = torch.stack([(case.images + eps * unit).clamp(0, 1) for eps in RADII])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    again = Case(case.network, case.folded, case.images, case.labels, case.index, np.random.RandomState(11))
    ((_, moved, *_),) = irpipe.attacks.pgd.attack(again, eps=RADII, steps=[3], random_start=True)
    for eps, start, ours in zip(RADII, expected, moved, strict=True):
        assert_near(ours, plain(case, start, eps, 0.01, 3))


def test_bfloat16_follows_the_rounded_networks_gradient(case: Case) -> None:
    rounded = copy.deepcopy(case.network).bfloat16()
    variable = case.images.bfloat16().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(rounded(variable).float(), case.labels), variable)
    ((_, ours, *_),) = irpipe.attacks.pgd.attack(case, eps=[0.1], steps=[1], precision="bfloat16")
    ((_, exact, *_),) = irpipe.attacks.pgd.attack(case, eps=[0.1], steps=[1])
    assert ours.dtype == torch.float32
    moved = (ours[0] - case.images).sign()
    agree = (moved == gradient.float().sign()) | (case.images == 0) | (case.images == 1)  # or at the edge
    assert agree.float().mean() > 0.97  # folding rounds elsewhere, so where a gradient is near 0 its sign may differ
    assert not torch.equal(ours, exact)


def test_float64_images_stay_float64(case: Case) -> None:
    double = Case(case.network, case.folded, case.images.double(), case.labels, case.index, case.rng)
    ((_, found, *_),) = irpipe.attacks.pgd.attack(double, eps=[0.1], steps=[1], step_size=1e-12)
    assert found.dtype == torch.float64
    assert (found[0] - double.images).abs().max().item() == pytest.approx(1e-12, rel=1e-3)


# --- the evaluator ---------------------------------------------------------------------------------------


def bounds(*radii: float) -> Tensor:
    """The same bound for each of two images."""
    return torch.tensor(radii)[:, None].expand(-1, 2)


def test_measured_radius_of_each_image() -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    moved = images.repeat(3, 1, 1, 1, 1)
    moved[1, 0, 0, 1, 0], moved[2, 1, 0, 0, 0] = 0.4, 0.75
    found = evaluate._checked(moved, images, bounds(0, 0.1, 0.3), "mine")
    torch.testing.assert_close(found, torch.tensor([[0, 0], [0.1, 0], [0, 0.25]]))


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        ((1, 0, 0, 0, 0), 0.601, r"went 0\.101000 far where 0\.100000 is allowed"),
        ((1, 0, 0, 0, 0), 0.3, r"went 0\.200000 far"),
        ((0, 1, 0, 1, 1), 0.51, r"went 0\.010000 far where 0\.000000 is"),  # each radius has its own bound
        ((1, 0, 0, 0, 0), 1.001, r"gave pixels outside \[0, 1\]"),
        ((1, 0, 0, 0, 0), -0.001, r"gave pixels outside \[0, 1\]"),
        ((1, 0, 0, 0, 0), float("nan"), "gave images that are not finite"),
        ((1, 0, 0, 0, 0), float("inf"), "gave images that are not finite"),
    ],
)
def test_evaluator_refuses_images_that_leave_their_set(index: tuple[int, ...], value: float, message: str) -> None:
    images = torch.full((2, 1, 2, 2), 0.5)
    moved = images.repeat(2, 1, 1, 1, 1)
    moved[index] = value
    with pytest.raises(RuntimeError, match=f"^attack mine: {message}"):
        evaluate._checked(moved, images, bounds(0, 0.1), "mine")


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (1, 2, 1, 2, 2), (2, 2, 1, 2, 3)])
def test_evaluator_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        RuntimeError, match=rf"^attack mine: gave images of shape \({shape[0]}, .*, not \(2, 2, 1, 2, 2\)"
    ):
        evaluate._checked(torch.full(shape, 0.5), torch.full((2, 1, 2, 2), 0.5), bounds(0, 0.1), "mine")


def test_evaluator_scores_by_the_plain_network(network: Network, case: Case) -> None:
    """An attack's images are scored as they are, radius 0 by the clean images, which no attack is shown."""
    asked: list[Any] = []

    def attack(case: Case, *, eps: list[float], mine: int) -> Iterator[Outcome]:
        asked.append((eps, mine))
        for count in (2, 7):
            yield Outcome(count, torch.stack([(case.images + radius * count / 10).clamp(0, 1) for radius in eps]))

    spec = {"kind": "mine", "images": 6, "seed": 0, "batch": 6, "eps": [0.1, 0.0, 0.2], "mine": 3}
    found = evaluate._run(case, SimpleNamespace(attack=attack), spec)
    assert asked == [([0.1, 0.2], 3)]
    assert found["steps"].tolist() == [2, 7]
    for e, eps in enumerate([0.1, 0.0, 0.2]):
        for s, count in enumerate((2, 7)):
            moved = (case.images + eps * count / 10).clamp(0, 1)
            logits = network(moved)
            right = logits.argmax(dim=1)
            assert found["prediction"][:, e, s].tolist() == right.tolist()
            assert found["correct"][:, e, s].tolist() == (right == case.labels).tolist()
            loss = torch.logsumexp(logits, dim=1) - logits[range(6), case.labels]
            np.testing.assert_allclose(found["loss"][:, e, s], loss, atol=1e-5)
            distance = (moved - case.images).abs().amax(dim=(1, 2, 3))
            np.testing.assert_allclose(found["radius"][:, e, s], distance, atol=1e-7)
