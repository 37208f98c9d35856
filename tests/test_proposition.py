"""Proposition 1: both its sides in plain numbers, its violation, the released network, and the figure."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_models import MNIST, random_images, random_network
from torch import Tensor

from irpipe.ascent import Case, ascend, sign_steps
from irpipe.attacks import proposition
from irpipe.commands import _accuracies
from irpipe.evaluate import _run, evaluate
from irpipe.hardware import device
from irpipe.io import Result, write_checkpoint
from irpipe.models import Folded
from irpipe.released import convert
from irpipe.reports import tightness
from irpipe.spec import resolve


@pytest.fixture(scope="module")
def case() -> Case:
    network, images = random_network("small", MNIST).requires_grad_(False), random_images(MNIST, 4)
    labels = network(images).argmax(dim=1)
    return Case(network, Folded(network, MNIST), images, labels, np.arange(4), np.random.RandomState(5))


def moves(case: Case) -> tuple[Tensor, Tensor]:
    """Two sets of other images, moved towards class 3 and class 7, and what they are taken for."""
    moved = []
    for aim in (3, 7):
        update = sign_steps(case.images, 0.6, 0.1)
        moved += list(ascend(case.images, lambda x, aim=aim: case.network(x)[:, aim].sum(), update, 10))[-1:]
    return torch.stack(moved), torch.stack([case.network(images).argmax(dim=1) for images in moved])


def test_both_sides_in_plain_numbers(case: Case) -> None:
    moved, taken = moves(case)
    target = taken.clone()
    target[0, 0] = (taken[0, 0] + 1) % 10
    found = {key: value.numpy() for key, value in proposition.checked(case, moved, target).items()}
    head = case.network.head.double().numpy()
    for e, n in np.ndindex(2, 4):
        before, after = (case.network.features(x[n : n + 1])[0].double().numpy() for x in (case.images, moved[e]))
        t, other, u = int(case.labels[n]), int(target[e, n]), before[0].size
        bound = (head[t] @ before.sum(axis=(1, 2)) - head[other] @ before.sum(axis=(1, 2))) / u / 2
        change = sum(np.abs(np.einsum("k,khw->hw", head[c], after - before)).sum() / u for c in (t, other)) / 2
        changed = taken[e, n] == other != t
        assert found["bound"][e, n] == pytest.approx(bound, rel=1e-4, abs=1e-5)
        assert found["discrepancy"][e, n] == pytest.approx(change, rel=1e-4)
        assert found["changed"][e, n] == changed
        assert found["tightness"][e, n] == pytest.approx(bound / change if changed else 0, rel=1e-4)
    assert found["changed"].tolist() == [[False, True, True, True], [True] * 4]


def test_a_violation_fails_the_run_where_the_prediction_changed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, taken = moves(case)
    row = int(torch.nonzero(taken[1] != case.labels)[0])
    only = slice(row, row + 1)
    alone = replace(case, images=case.images[only], labels=case.labels[only], index=case.index[only])
    images, target = moved[1:, only], taken[1:, only]
    proposition.checked(alone, images, target)
    true = proposition.interpret
    monkeypatch.setattr(proposition, "interpret", lambda *given, **options: 0.01 * true(*given, **options))
    with pytest.raises(
        RuntimeError, match=rf"^Proposition 1 fails on test image {row}: discrepancy .* below its bound"
    ):
        proposition.checked(alone, images, target)
    proposition.checked(alone, images, (target + 1) % 10)  # taken for something else: nothing is said of it
    mistaken = replace(alone, labels=(alone.labels + 1) % 10)  # taken for something else before
    assert not proposition.checked(mistaken, images, target)["changed"].any()


def test_attack_gives_the_sneaking_attacks_points(case: Case) -> None:
    spec = resolve("attacks", {"kind": "proposition", "penalties": [1, 1.5]}, "here")
    found = _run(case, SimpleNamespace(attack=proposition.attack, AXIS=proposition.AXIS), spec)
    assert found["bound"].shape == (4, 3, 1)
    assert (found["target"] != case.labels.numpy()[:, None, None]).all()
    assert np.array_equal(found["changed"], found["prediction"] == found["target"])  # all are right before
    radius = found["smallest"] * np.array([1, 1, 1.5])[None, :, None]
    assert (found["radius"] <= np.minimum(radius, 1) + 1e-6).all()
    (signed,) = proposition.attack(replace(case, rng=np.random.RandomState(5)), slope=None)
    (coarse,) = proposition.attack(replace(case, rng=np.random.RandomState(5)), slope=1)
    assert (signed.extra["smallest"] < 1).any() and (coarse.extra["smallest"] == 1).all()


def test_released_network_keeps_the_proposition(shared: Path, tmp_path: Path) -> None:
    path, file = tmp_path / "network.safetensors", shared / "released" / "networks" / "mnist_smallgap_normal_100.pkl"
    write_checkpoint(path, convert(file, "mnist", {"kind": "mnist"}, "small", "normal"))
    spec = resolve("attacks", {"kind": "proposition", "images": 20}, "here")
    found = evaluate(path, "p", spec, shared / "datasets", device("cpu"), "test").arrays
    assert found["index"].tolist() == np.random.RandomState(99).permutation(10000)[:20].tolist()
    assert found["changed"].all()
    assert 0.7 < np.median(found["tightness"]) < found["tightness"].max() <= 1
    lines = _accuracies(Result({}, found)).splitlines()
    assert lines[0].split() == ["radius", "0"]
    radii = [f"{radius:.4f}" for radius in found["radius"].mean(axis=(0, 2))]
    assert [line.split() for line in lines[1:-1]] == [[radius, "0.000"] for radius in radii]


# --- the figure ------------------------------------------------------------------------------------------


def made(method: str, bound: list[float], discrepancy: list[float], changed: list[bool]) -> Result:
    attrs = {"dataset": "mnist", "model": "small", "method": method, "run": "released", "attack": "proposition"}
    arrays = {"bound": bound, "discrepancy": discrepancy, "changed": changed}
    columns = {key: np.array(value)[:, None, None].repeat(2, axis=1) for key, value in arrays.items()}
    share = np.where(columns["changed"], columns["bound"] / columns["discrepancy"], 0)
    spec = {"kind": "proposition", "penalties": [1.6]}
    return Result(attrs | {"kind": "proposition", "code": "c", "spec": spec}, columns | {"tightness": share})


def test_figure_counts_changed_images_only_and_has_equal_bytes(tmp_path: Path) -> None:
    results = [
        made("normal", [1, 2, 3], [2, 8, 3], [True, True, False]),
        made("adv", [1, 2], [2, 8], [False, False]),
    ]
    first = tightness.report(results, tmp_path / "a", title="T")
    again = tightness.report(results[::-1], tmp_path / "b", title="T")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    drawn = first[2].read_text()
    for text in ("median tightness 0.38, n = 2", "-, n = 0", "sneaking, 1.6 × that radius"):  # (1/2 + 2/8) / 2
        assert f"<!-- {text} -->" in drawn
