"""Proposition 1: both sides in plain numbers, a violation, the released network, the figure."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from random_networks import MNIST, random_images, random_network
from torch import Tensor

from irpipe.ascent.gradient_ascent import gradient_ascent, linf_sign_update
from irpipe.attacks import AttackBatch, proposition1
from irpipe.cli._accuracies import accuracies
from irpipe.config.kinds import resolve_entry
from irpipe.evaluation import _attack_batch, evaluate_checkpoint
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.released import read_released
from irpipe.reports import proposition1_bound
from irpipe.results.result import Result
from irpipe.runtime.device import select_device


@pytest.fixture(scope="module")
def batch() -> AttackBatch:
    network = random_network("small", MNIST).requires_grad_(False)
    images = random_images(MNIST, 4)
    labels = network(images).argmax(dim=1)
    folded = FoldedNetwork(network, MNIST)
    return AttackBatch(network, folded, images, labels, np.arange(4), np.random.RandomState(5))


def adversarial_images(batch: AttackBatch) -> tuple[Tensor, Tensor]:
    """The images moved towards class 3 and towards class 7, and what they are predicted as."""
    adversarial = []
    for target_class in (3, 7):

        def objective(images: Tensor, target_class: int = target_class) -> Tensor:
            return batch.network(images)[:, target_class].sum()

        update = linf_sign_update(batch.images, 0.6, 0.1)
        *_, last = gradient_ascent(batch.images, objective, update, 10)
        adversarial.append(last)
    predictions = [batch.network(images).argmax(dim=1) for images in adversarial]
    return torch.stack(adversarial), torch.stack(predictions)


def test_both_sides_in_plain_numbers(batch: AttackBatch) -> None:
    adversarial, predictions = adversarial_images(batch)
    target = predictions.clone()
    target[0, 0] = (predictions[0, 0] + 1) % 10
    sides = proposition1.check_proposition1(batch, adversarial, target)
    arrays = {name: values.numpy() for name, values in sides.items()}
    head = batch.network.head.double().numpy()
    for e, n in np.ndindex(2, 4):
        clean, new = (
            batch.network.features(images[n : n + 1])[0].double().numpy()
            for images in (batch.images, adversarial[e])
        )
        t, other, u = int(batch.labels[n]), int(target[e, n]), clean[0].size
        sums = clean.sum(axis=(1, 2))
        bound = (head[t] @ sums - head[other] @ sums) / u / 2
        map_changes = [np.einsum("k,khw->hw", head[c], new - clean) / u for c in (t, other)]
        discrepancy = sum(np.abs(change).sum() for change in map_changes) / 2
        applies = predictions[e, n] == other != t
        tightness = bound / discrepancy if applies else 0
        assert arrays["bound"][e, n] == pytest.approx(bound, rel=1e-4, abs=1e-5)
        assert arrays["discrepancy"][e, n] == pytest.approx(discrepancy, rel=1e-4)
        assert arrays["prop1_applies"][e, n] == applies
        assert arrays["tightness"][e, n] == pytest.approx(tightness, rel=1e-4)
    assert arrays["prop1_applies"].tolist() == [[False, True, True, True], [True] * 4]


def test_a_violation_fails_the_run_where_the_prediction_changed(
    batch: AttackBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    adversarial, predictions = adversarial_images(batch)
    row = int(torch.nonzero(predictions[1] != batch.labels)[0])
    only = slice(row, row + 1)
    single = replace(
        batch, images=batch.images[only], labels=batch.labels[only], indices=batch.indices[only]
    )
    images, target = adversarial[1:, only], predictions[1:, only]
    proposition1.check_proposition1(single, images, target)
    true_interpret = proposition1.interpret
    monkeypatch.setattr(
        proposition1,
        "interpret",
        lambda *arguments, **options: 0.01 * true_interpret(*arguments, **options),
    )
    message = rf"^Proposition 1 fails on test image {row}: discrepancy .* below its bound"
    with pytest.raises(RuntimeError, match=message):
        proposition1.check_proposition1(single, images, target)
    # The prediction is another class than the target: the proposition says nothing.
    proposition1.check_proposition1(single, images, (target + 1) % 10)
    # The clean image is misclassified: it says nothing either.
    misclassified = replace(single, labels=(single.labels + 1) % 10)
    sides = proposition1.check_proposition1(misclassified, images, target)
    assert not sides["prop1_applies"].any()


def test_attack_gives_the_points_of_isa(batch: AttackBatch) -> None:
    entry = {"kind": "proposition1", "eps_multipliers": [1, 1.5]}
    options = resolve_entry("attacks", entry, "here")
    kind = SimpleNamespace(attack=proposition1.attack, AXIS=proposition1.AXIS)
    arrays = _attack_batch(batch, kind, options)
    assert arrays["bound"].shape == (4, 3, 1)
    assert (arrays["target"] != batch.labels.numpy()[:, None, None]).all()
    # All clean images are classified correctly.
    assert np.array_equal(arrays["prop1_applies"], arrays["prediction"] == arrays["target"])
    eps = arrays["eps_min"] * np.array([1, 1, 1.5])[None, :, None]
    assert (arrays["linf_distance"] <= np.minimum(eps, 1) + 1e-6).all()

    def eps_min(grad_scale: float | None) -> Tensor:
        restarted = replace(batch, rng=np.random.RandomState(5))
        (output,) = proposition1.attack(restarted, grad_scale=grad_scale)
        return output.extras["eps_min"]

    assert (eps_min(None) < 1).any()
    assert (eps_min(1) == 1).all()


def test_released_network_keeps_the_proposition(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    file = shared / "released" / "networks" / "mnist_smallgap_normal_100.pkl"
    write_checkpoint(path, read_released(file, "mnist", {"kind": "mnist"}, "small", "normal"))
    options = resolve_entry("attacks", {"kind": "proposition1", "images": 20}, "here")
    arrays = evaluate_checkpoint(
        path, "p", options, shared / "datasets", select_device("cpu"), "test"
    ).arrays
    expected_indices = np.random.RandomState(99).permutation(10000)[:20]
    assert arrays["indices"].tolist() == expected_indices.tolist()
    assert arrays["prop1_applies"].all()
    assert 0.7 < np.median(arrays["tightness"]) < arrays["tightness"].max() <= 1
    lines = accuracies(Result({}, arrays)).splitlines()
    assert lines[0].split() == ["eps", "0"]
    distances = [f"{distance:.4f}" for distance in arrays["linf_distance"].mean(axis=(0, 2))]
    assert [line.split() for line in lines[1:-1]] == [[text, "0.000"] for text in distances]


# --- the figure ---


def make_result(
    method: str, bound: list[float], discrepancy: list[float], applies: list[bool]
) -> Result:
    """A result of two points with equal values."""
    arrays = {"bound": bound, "discrepancy": discrepancy, "prop1_applies": applies}
    columns = {
        name: np.array(values)[:, None, None].repeat(2, axis=1) for name, values in arrays.items()
    }
    ratio = columns["bound"] / columns["discrepancy"]
    columns["tightness"] = np.where(columns["prop1_applies"], ratio, 0)
    attrs = {
        "dataset": "mnist",
        "model": "small",
        "method": method,
        "run": "released",
        "attack": "proposition1",
        "kind": "proposition1",
        "code_hash": "c",
        "options": {"kind": "proposition1", "eps_multipliers": [1.6]},
    }
    return Result(attrs, columns)


def test_figure_counts_changed_images_only_and_has_equal_bytes(tmp_path: Path) -> None:
    results = [
        make_result("normal", [1, 2, 3], [2, 8, 3], [True, True, False]),
        make_result("adv", [1, 2], [2, 8], [False, False]),
    ]
    first = proposition1_bound.report(results, tmp_path / "a", title="T")
    again = proposition1_bound.report(results[::-1], tmp_path / "b", title="T")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    svg = first[2].read_text(encoding="utf-8")
    # (1/2 + 2/8) / 2 = 0.375
    texts = ("median tightness 0.38, n = 2", "-, n = 0", "ISA at 1.6 ε*")
    for text in texts:
        assert f"<!-- {text} -->" in svg
