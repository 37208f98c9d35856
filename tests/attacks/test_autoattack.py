"""AutoAttack: which member attacks which images, and what the members achieve."""

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_small_batch
from torch import Tensor

from irpipe.attacks import AttackBatch, _autoattack_members, autoattack, margin_pgd
from irpipe.attacks._autoattack_search import Rows, Search
from irpipe.config import kinds
from irpipe.errors import IrpipeError


@pytest.fixture
def batch() -> AttackBatch:
    return make_small_batch()


def test_each_member_attacks_what_the_one_before_left(
    batch: AttackBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[int]]] = []
    n_wins = {"apgd-ce": 1, "square": 2}
    predicted = batch.network(batch.images).argmax(dim=1)

    def fake(name: str) -> Any:
        """A member that replaces its first images by images of another class."""

        def run(search: Search, rows: Rows) -> Tensor:
            calls.append((name, rows.labels.tolist()))
            others = torch.stack([(predicted != label).nonzero()[0, 0] for label in rows.labels])
            attacked = rows.images.clone()
            attacked[: n_wins[name]] = batch.images[others][: n_wins[name]]
            return attacked

        return run

    for name in n_wins:
        monkeypatch.setitem(_autoattack_members.MEMBERS, name, fake(name))
    clean = batch.images.clone()
    arrays = evaluate_attack(batch, autoattack, [1.0], attacks_to_run=["apgd-ce", "square"])
    labels = batch.labels.tolist()
    # The first image is misclassified when clean.
    assert calls[0] == ("apgd-ce", labels[1:])
    assert calls[1] == ("square", labels[2:])
    broken_by = arrays["broken_by"][:, 0, 0].tolist()
    assert broken_by[0] == 0
    assert broken_by[1:4] == [1, 2, 2]
    assert (arrays["correct"][:, 0, 0] == (np.arange(12) > 3)).all()
    assert torch.equal(batch.images, clean)


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_member_wins_within_eps(name: str, batch: AttackBatch) -> None:
    torch_state = torch.get_rng_state()
    options: dict[str, Any] = {"attacks_to_run": [name], "steps": 20, "n_queries": 300}
    arrays = evaluate_attack(batch, autoattack, [0.0, 0.02, 0.2], **options)
    accuracy = arrays["correct"][:, :, 0].mean(axis=0)
    assert accuracy[0] == pytest.approx(11 / 12)
    assert accuracy[2] < accuracy[0]
    assert accuracy[2] <= accuracy[1]
    assert arrays["linf_distance"].max() <= 0.2 + 1e-6
    is_broken = arrays["broken_by"][:, 1:, 0] > 0
    assert (is_broken == ~arrays["correct"][:, 1:, 0])[1:].all()
    assert torch.equal(torch.get_rng_state(), torch_state)
    same = dataclasses.replace(batch, rng=np.random.RandomState(11))
    again = evaluate_attack(same, autoattack, [0.0, 0.02, 0.2], **options)
    np.testing.assert_array_equal(arrays["loss"], again["loss"])


def test_square_keeps_no_image_of_one_network_for_the_next(batch: AttackBatch) -> None:
    other = make_small_batch()
    for each in (batch, other):
        options: dict[str, Any] = {"attacks_to_run": ["square"], "n_queries": 1}
        list(autoattack.attack(each, eps=[0.1], **options))
    assert list(_autoattack_members._SQUARE_RESULTS) == [other.folded]


def test_no_image_is_left_at_eps_1(batch: AttackBatch) -> None:
    arrays = evaluate_attack(batch, margin_pgd, [1.0], steps=[3], restarts=3)
    assert not arrays["correct"].any()
    options: dict[str, Any] = {"attacks_to_run": ["apgd-ce", "square"]}
    arrays = evaluate_attack(batch, autoattack, [1.0], steps=10, n_queries=10, **options)
    assert not arrays["correct"].any()
    assert arrays["broken_by"][:, 0, 0].tolist() == [0] + [1] * 11


def test_autoattack_is_no_weaker_than_margin_pgd(batch: AttackBatch) -> None:
    n_correct = [
        arrays["correct"].sum()
        for arrays in (
            evaluate_attack(batch, margin_pgd, [0.03], steps=[20]),
            evaluate_attack(batch, autoattack, [0.03], steps=20, n_queries=200),
        )
    ]
    assert n_correct[1] <= n_correct[0] + 1
    assert n_correct[1] < 11


def test_without_pyautoattack_the_extra_is_named(
    batch: AttackBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack.autopgd_base", None)
    message = r"pyautoattack is missing; pip install 'irpipe\[stress\]'"
    with pytest.raises(IrpipeError, match=message):
        list(autoattack.attack(batch, eps=[0.1]))


def resolve(**options: Any) -> dict[str, Any]:
    return kinds.resolve_entry("attacks", {"kind": "autoattack", **options}, "here")


def test_the_standard_version_is_the_default() -> None:
    options = resolve(eps=0.3)
    assert options["attacks_to_run"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert (options["steps"], options["n_queries"]) == (100, 5000)
    assert resolve(attacks_to_run="square")["attacks_to_run"] == ["square"]
    with pytest.raises(IrpipeError, match=r"here\.attacks_to_run.*apgd-dlr"):
        resolve(attacks_to_run=["apgd-dlr"])
