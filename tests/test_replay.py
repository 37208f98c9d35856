"""Recorded loops, with torch's tracer in CUDA's place: it too keeps operations and where their data lie, no Python."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from irpipe import ascent, config, replay
from irpipe.ascent import Case, attain, noise
from irpipe.attacks import aai, pgd
from irpipe.models import Folded, build
from irpipe.optimise import draw_weights
from irpipe.replay import Recorded
from irpipe.train import Plan, Trainer

METHODS = ["adv", "trades", "ig_norm", "ig_sum_norm", "int", "int_adv", "int_one_class"]


def trace(function: Callable[..., list[Tensor]], own: list[Tensor]) -> tuple[Callable[[], None], list[Tensor]]:
    """As `replay.record`; fails where the function asks for a value, which on a GPU would wait for it."""
    kept = [each.clone() for each in own]
    graph = make_fx(function)(*own)
    assert all(torch.equal(a, b) for a, b in zip(kept, own, strict=True))  # a replay starts from the same arguments
    made = [torch.full_like(each, torch.nan) if each.is_floating_point() else each for each in graph(*own)]

    def again() -> None:
        for place, new in zip(made, graph(*own), strict=True):
            place.copy_(new)

    return again, made


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "record", trace)


def test_numbers_of_python_stay_and_memory_is_read_anew() -> None:
    weight, factor = torch.tensor([1.0, 2.0]), 10.0
    scaled = Recorded(lambda given: [factor * weight * given])
    first = scaled(torch.tensor([1.0, 1.0]))
    factor = 1000.0
    weight.add_(1)
    second = scaled(torch.tensor([2.0, 3.0]))
    assert first[0].tolist() == [10, 20]  # still, after the second call
    assert second[0].tolist() == [40, 90]


def test_a_function_that_branches_on_values_cannot_be_recorded() -> None:
    with pytest.raises(RuntimeError):
        Recorded(lambda given: [given if given.sum() > 0 else -given])(torch.ones(2))


def case() -> Case:
    network = build("small", (1, 28, 28), 10).requires_grad_(False)
    draw_weights(network, np.random.RandomState(3))
    images = torch.from_numpy(np.random.RandomState(4).uniform(size=(3, 1, 28, 28))).float()
    folded = Folded(network, (1, 28, 28))
    return Case(network, folded, images, torch.tensor([1, 7, 3]), np.arange(3), np.random.RandomState(5))


def on_gpu(start: Tensor, objective: Any, update: Any, counts: Any, label: str = "") -> Iterator[tuple[int, Tensor]]:
    return ascent._replay(start.detach(), objective, update, sorted(set(counts)), label)


@pytest.mark.parametrize("options", [{}, {"random_start": True}, {"relative": 1.0}])
def test_pgd_is_the_same(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"eps": [0.05, 0.2], "steps": [1, 4, 9], **options}
    expected = [(outcome.at, outcome.images) for outcome in pgd.attack(case(), **spec)]
    monkeypatch.setattr(pgd, "attain", on_gpu)
    found = [(outcome.at, outcome.images) for outcome in pgd.attack(case(), **spec)]
    assert [at for at, _ in found] == [1, 4, 9]
    for (_, one), (_, other) in zip(expected, found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("interpreter", ["cam", "gradcampp", "ig"])
@pytest.mark.parametrize("objective", ["topk", "centre", "two_class", "target"])
def test_aai_is_the_same(interpreter: Any, objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"eps": [0.1], "steps": 3, "interpreter": interpreter, "objective": objective, "hinge": 1.0, "images": 3}
    (expected,) = aai.attack(case(), **spec)
    monkeypatch.setattr(aai, "attain", on_gpu)
    (found,) = aai.attack(case(), **spec)
    assert torch.equal(found.images, expected.images)


@pytest.mark.parametrize("method", METHODS)
def test_the_inner_maximisation_follows_images_radius_and_weights(method: str) -> None:
    recipe = config.lookup("recipes", "timing", None) | {"batch": 4, "steps": 3, "step_size": 0.02}
    spec = config.lookup("methods", method, None)
    plan = Plan("digits", {"kind": "digits"}, "small", method, spec, recipe, 0, "test")
    trainer = Trainer(plan, Path(), torch.device("cpu"))
    for number, radius in enumerate((0.05, 0.2)):
        images, labels = (
            each[4 * number : 4 * number + 4] for each in (trainer.training.images, trainer.training.labels)
        )
        start = (images + noise(trainer.rng, "uniform", radius, images)).clamp(0, 1)
        given = images, labels, start, images.new_full((4, 1, 1, 1), radius)
        (expected,) = trainer._climb(Folded(trainer.network, trainer.shape), *given)
        (found,) = trainer.recorded(*given)
        assert torch.equal(found, expected)
        assert not torch.equal(found, start.float())
        trainer.step()  # moves the weights, in place


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: recording is checked by torch's tracer alone")
def test_a_graph_gives_what_the_steps_give_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # CUDA's own
    there = case()
    network = there.network.cuda()
    images, labels = there.images.cuda(), there.labels.cuda()
    moved = Case(network, Folded(network, (1, 28, 28)), images, labels, there.index, there.rng)
    for outcome in pgd.attack(moved, eps=[0.05, 0.2], steps=[1, 4, 9]):
        plain = [
            ascent.ascend(
                images,
                lambda points: torch.nn.functional.cross_entropy(moved.folded(points), labels),
                ascent.sign_steps(images, radius, 0.01),
                outcome.at,
            )
            for radius in (0.05, 0.2)
        ]
        expected = torch.stack([list(path)[-1] for path in plain])
        assert torch.allclose(outcome.images, expected, atol=1e-6)


def test_on_a_cpu_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "record", lambda function, own: pytest.fail("recorded"))
    assert [at for at, _ in attain(torch.zeros(2, 1), lambda p, rows: p.sum(), lambda rows: torch.add, [2])] == [2]
