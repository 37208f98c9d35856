"""What the unforeseen attacks share: draws, steps, the loop, and published cells of Table 5."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from unforeseen_batches import NAMES, random_batches, run_attack, true_class_margin

from irpipe import config
from irpipe.analysis import table5_scoring
from irpipe.attacks import AttackBatch, snow
from irpipe.attacks._unforeseen import Parametrisation, Step, UnforeseenAttack
from irpipe.config import yaml_reader
from irpipe.evaluation import _attack_batch, evaluate_checkpoint
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.released import read_released
from irpipe.published import published_table, table5
from irpipe.results.result import Result

# --- draws ----------------------------------------------------------------------------------


def unforeseen(batch: AttackBatch, **changes: Any) -> UnforeseenAttack:
    attack = UnforeseenAttack(batch, "released", 3, True, "last", 0, 200, 40)
    return dataclasses.replace(attack, **changes)


def test_targets_and_kernels_follow_the_sample_batch_by_batch() -> None:
    rng = np.random.RandomState(99)
    rng.permutation(10_000)
    expected = np.random.RandomState(99)
    expected.permutation(10_000)
    sample = [
        dataclasses.replace(batch, rng=rng) for batch in random_batches(batch_size=40, n_images=200)
    ]
    targets = torch.cat([unforeseen(batch).draw_targets()[0] for batch in sample])
    labels = torch.cat([batch.labels for batch in sample])
    draws = ((targets - labels - 1) % 10).tolist()
    assert draws[:10] == [6, 1, 4, 1, 6, 7, 1, 2, 0, 2]  # U.0 lists them
    assert draws == expected.randint(9, size=200).tolist()
    sums = [
        unforeseen(batch).draw_for_batch(lambda rng, _: snow.draw_kernels(rng))[0].sum()
        for batch in reversed(sample)
    ]
    # U.2 lists them.
    assert sums == pytest.approx([21.1535, 14.9529, 11.9497, 14.9529, 52.051], abs=6e-5)


def test_each_image_has_its_own_generator() -> None:
    (batch,) = random_batches()
    first = unforeseen(batch).draw_per_image(lambda rng: rng.uniform())
    assert first == [np.random.RandomState([0, index]).uniform() for index in batch.indices]
    other = unforeseen(batch, init_seed=1).draw_per_image(lambda rng: rng.uniform())
    assert not set(first) & set(other)


def test_step_sizes_and_default_eps_are_those_of_table_5() -> None:
    (batch,) = random_batches()
    attack = unforeseen(batch, steps=200)
    assert attack.step_size("released", 400) == pytest.approx(28.284, abs=1e-3)
    assert attack.step_size("advex_uar", 400) == 0.002236
    assert table5.default_eps({"kind": "gabor", "norm": ""}) == [400]
    assert table5.default_eps({"kind": "jpeg", "norm": "linf"}) == [0.25]
    assert table5.default_eps({"kind": "jpeg", "norm": "l2"}) == [8]
    assert table5.default_eps({"kind": "jpeg", "norm": "l1"}) == [256]


# --- the loop -------------------------------------------------------------------------------


def brightness(batch: AttackBatch, step: Step) -> Parametrisation:
    """The variable is a number for each image, which brightens it."""
    pixels = (255 * batch.images).float()
    return Parametrisation(
        init=torch.zeros(len(pixels), 1),
        render=lambda variable: pixels + variable[..., None, None],
        step=step,
        extras=lambda variable: {"variable": variable[:, 0]},
    )


@pytest.mark.parametrize("targeted", [True, False])
def test_steps_follow_the_gradient_and_the_first_is_taken_where_the_kind_says(
    targeted: bool,
) -> None:
    (batch,) = random_batches()
    calls: list[tuple[int, Tensor, Tensor]] = []

    def step(steps_before: int, variable: Tensor, direction: Tensor) -> Tensor:
        calls.append((steps_before, variable.clone(), direction.clone()))
        return variable + 1

    attack = unforeseen(batch, targeted=targeted)
    parametrisation = brightness(batch, step)._replace(first_gradient_at=lambda init: init + 5)
    output = attack.run([parametrisation])
    assert [steps_before for steps_before, _, _ in calls] == [0, 1, 2]
    assert output.extras["variable"].tolist() == [[3.0] * 4]
    gradient_points = (5, 1, 2)
    for (steps_before, variable, direction), level in zip(calls, gradient_points, strict=True):
        point = torch.full((4, 1), float(level), requires_grad=True)
        logits = batch.network(batch.images.float() + point[..., None, None] / 255)
        if targeted:
            loss = -F.cross_entropy(logits, attack.draw_targets()[0])
        else:
            loss = F.cross_entropy(logits, batch.labels)
        (expected,) = torch.autograd.grad(loss, point)
        torch.testing.assert_close(direction, expected, rtol=1e-3, atol=1e-7)
        assert (variable == steps_before).all()


def test_nan_iterates_are_flagged_and_the_last_finite_one_is_returned() -> None:
    (batch,) = random_batches()
    fails_at = torch.tensor([[9], [1], [2], [9]])

    def step(steps_before: int, variable: Tensor, _: Tensor) -> Tensor:
        return torch.where(steps_before >= fails_at, math.nan, variable + 1)

    extras = unforeseen(batch, steps=5).run([brightness(batch, step)]).extras
    assert extras["variable"].tolist() == [[5, 1, 2, 5]]
    assert extras["nan"].tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("name", NAMES)
def test_the_worst_iterate_is_no_better_than_any(name: str) -> None:
    (batch,) = random_batches()

    def margin(**options: Any) -> Tensor:
        images, _ = run_attack(batch, name, **options)
        return true_class_margin(batch, images)

    assert (margin(iterate="worst") <= margin(steps=4) + 1e-4).all()
    if name == "snow":
        # Here the step does not depend on the number of steps, so shorter attacks are iterates.
        iterates = [margin(steps=steps, step_rule="advex_uar") for steps in (1, 2, 3)]
        worst = margin(step_rule="advex_uar", iterate="worst")
        assert (worst <= torch.stack(iterates).amin(dim=0) + 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_attacks_lower_the_loss_that_they_minimise(name: str) -> None:
    (batch,) = random_batches(logit_factor=20)
    images, extras = run_attack(batch, name, variant="fixed", steps=20)
    start = batch.images
    if name in table5.VARIABLE_RANGES:
        # The small steps of advex-uar hardly leave the start.
        start, _ = run_attack(batch, name, variant="fixed", steps=20, step_rule="advex_uar")
    losses = [F.cross_entropy(batch.network(x.float()), extras["target"]) for x in (start, images)]
    assert losses[1] < losses[0]
    untargeted, extras = run_attack(batch, name, variant="fixed", steps=20, targeted=False)
    assert "target" not in extras
    margins = [true_class_margin(batch, x).mean() for x in (untargeted, batch.images)]
    assert margins[0] < margins[1]


# --- results --------------------------------------------------------------------------------


def test_the_evaluator_stores_the_first_images_for_figures() -> None:
    entry = {
        "kind": "snow",
        "eps": [1, 2],
        "steps": 2,
        "save_examples": 3,
        "images": 8,
        "batch_size": 2,
    }
    options = config.resolve_named("attacks", entry, "")
    batches = random_batches(batch_size=2, n_images=8)
    arrays = [_attack_batch(batch, snow, options) for batch in batches]
    adversarial = np.concatenate([part["adversarial_uint8"] for part in arrays])
    assert adversarial.shape == (3, 2, 1, 3, 16, 16)
    clean = np.concatenate([part["clean_uint8"] for part in arrays])
    images = torch.cat([batch.images for batch in batches])[:3]
    np.testing.assert_array_equal(clean[:, 1, 0], np.round(255 * images.numpy()))
    assert arrays[0]["nan"].shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("method", "name"), [("trades", "jpeg_linf"), ("normal", "jpeg_l2"), ("int", "snow")]
)
def test_published_cells(
    shared: Path, cifar_root: Path, tmp_path: Path, method: str, name: str
) -> None:
    """Three of the 35 cells, for time; docs/reproduction.md has all."""
    path = tmp_path / "network.safetensors"
    released = config.validate(yaml_reader.read_yaml(config.CONFIG_FOLDER / "released.yaml"))
    (pickle,) = (
        entry["released_files"][method]
        for entry in released["networks"]
        if (entry["dataset"], entry["model"]) == ("cifar10", "small")
        and method in entry["released_files"]
    )
    data = {"kind": "cifar10"}
    network = read_released(
        shared / "released" / "networks" / pickle, "cifar10", data, "small", method
    )
    write_checkpoint(path, network)
    kind, _, norm = name.partition("_")
    entry = {"kind": kind, "norm": norm} if norm else {"kind": kind}
    options = config.resolve_named("attacks", entry, "test")
    result: Result = evaluate_checkpoint(
        path, name, options, cifar_root, torch.device("cpu"), "test"
    )
    (published,) = (
        value.value
        for key, value in published_table("5").items()
        if (key.method, key.attack) == (method, name)
    )
    scored = table5_scoring.score_as_released(result)
    assert abs(scored.arrays["correct"].mean() - published) <= 0.03
    is_nan = result.arrays["nan"][:, 0, 0]
    assert is_nan.any() == (name == "jpeg_l2")  # the published cell that rests on NaN iterates
    if is_nan.any():
        assert result.arrays["correct"][:, 0, 0][is_nan].mean() <= 0.05
