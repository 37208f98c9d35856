"""No attack calls a network or a library with zero images, and NaN is never passed over."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_small_batch
from pyautoattack.autopgd_base import APGDAttack
from torch import Tensor

from irpipe.attacks import AttackBatch, aai, autoattack, margin_pgd, pgd
from irpipe.attacks._margin_loss import image_margin_loss
from irpipe.errors import IrpipeError
from irpipe.networks.folded import FoldedNetwork


class Refusing(FoldedNetwork):
    """A folded network that refuses batches of no image, as `view(len(x), -1)` does."""

    def __call__(self, images: Tensor) -> Tensor:
        images.view(images.size(0), -1)
        return super().__call__(images)

    def maps(self, images: Tensor, positive_head: bool = False) -> Tensor:
        images.view(images.size(0), -1)
        return super().maps(images, positive_head)


def refusing_batch() -> AttackBatch:
    """Every image falls at eps 1; one is misclassified from the start."""
    batch = make_small_batch()
    return dataclasses.replace(batch, folded=Refusing(batch.network, batch.images.shape[1:]))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (margin_pgd, {"steps": [2], "restarts": 4}),
        (pgd, {"steps": [1, 40], "step_size": 0.5}),
        (aai, {"steps": 40, "step_size": 0.5, "images": 12, "top_k": 2}),
        (autoattack, {"steps": 5, "n_queries": 30}),
        (autoattack, {"attacks_to_run": ["square"], "n_queries": 30}),
        (autoattack, {"attacks_to_run": ["fab-t"], "steps": 5}),
        (autoattack, {"attacks_to_run": ["apgd-t"], "steps": 5}),
    ],
)
def test_no_network_is_called_without_images(kind: Any, options: dict[str, Any]) -> None:
    arrays = evaluate_attack(refusing_batch(), kind, [0.5, 1.0], **options)
    assert arrays["correct"].shape[:2] == (12, 2)


def test_the_draws_do_not_depend_on_how_many_images_are_left() -> None:
    states = []
    for eps in (1.0, 0.0001):
        batch = refusing_batch()
        evaluate_attack(batch, margin_pgd, [eps], steps=[2], restarts=4)
        states.append(batch.rng.randint(2**31))
    assert states[0] == states[1]


def test_eps_of_0_alone_is_refused() -> None:
    with pytest.raises(IrpipeError, match="attack option eps: 0 leaves nothing to attack"):
        evaluate_attack(make_small_batch(), pgd, [0.0], steps=[1], step_size=0.1)


def test_an_image_with_logits_of_nan_is_the_worst_one() -> None:
    """It is the evaluator that refuses it."""
    network: Any = lambda images: torch.full((len(images), 2), torch.nan)  # noqa: E731
    margin = image_margin_loss(network, torch.zeros(3, 1, 1, 1), torch.tensor([0, 1, 0]))
    assert margin.tolist() == [torch.inf] * 3


def test_images_of_nan_that_pyautoattack_returns_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(self: APGDAttack, images: Tensor, labels: Tensor, starts: Tensor) -> tuple[Any, ...]:
        is_correct = torch.zeros_like(labels, dtype=torch.bool)
        return None, is_correct, None, torch.full_like(images, torch.nan)

    monkeypatch.setattr(APGDAttack, "attack_single_run", run)
    batch = make_small_batch()
    arrays = evaluate_attack(batch, autoattack, [0.1], attacks_to_run=["apgd-ce"], steps=1)
    assert arrays["broken_by"].sum() == 0
    assert arrays["correct"].sum() == 11


def few_classes(n_classes: int) -> AttackBatch:
    """The small batch with the first classes of its network."""
    batch = make_small_batch()
    batch.network.head = torch.nn.Parameter(batch.network.head[:n_classes])
    labels = batch.network(batch.images).argmax(dim=1)
    folded = FoldedNetwork(batch.network, batch.images.shape[1:])
    return dataclasses.replace(batch, labels=labels, folded=folded)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_members_that_need_four_classes_are_left_out(n_classes: int) -> None:
    batch = few_classes(n_classes)
    names = ["apgd-t", "apgd-ce", "fab-t", "square"]
    assert autoattack.left_out({"attacks_to_run": names}, n_classes) == ["apgd-t"]
    assert autoattack.left_out({"attacks_to_run": names}, 4) == []
    arrays = evaluate_attack(
        batch, autoattack, [0.02, 0.9], attacks_to_run=names, steps=10, n_queries=50
    )
    assert not arrays["correct"][:, 1].any()
    assert 1 not in np.unique(arrays["broken_by"])
    alone = evaluate_attack(batch, autoattack, [0.9], attacks_to_run=["fab-t"], steps=20)
    assert alone["correct"].mean() < 0.5
    message = f"apgd-t needs 4 classes, but the network has {n_classes}"
    with pytest.raises(IrpipeError, match=message):
        evaluate_attack(batch, autoattack, [0.1], attacks_to_run=["apgd-t"])
