"""Figure 1: PGD against a plain loop, its maps and their tau by hand, and what the figure shows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from random_networks import MNIST, random_images, random_network
from scipy.stats import kendalltau
from torch.nn import functional as F

from irpipe.attacks import AttackBatch
from irpipe.attacks.pgd_maps import attack
from irpipe.config.kinds import resolve_entry
from irpipe.datasets import Images
from irpipe.errors import IrpipeError
from irpipe.evaluation import _attack_batch
from irpipe.evaluation.sample import draw_sample
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.folded import FoldedNetwork
from irpipe.reports import saliency_maps
from irpipe.results.result import Result

OPTIONS = resolve_entry(
    "attacks",
    {"kind": "pgd_maps", "pgd_eps": 0.1, "steps": 3, "step_size": 0.04, "ig_steps": 4},
    "here",
)
INTERPRETERS = ("cam", "gradcampp", "ig")


@pytest.fixture(scope="module")
def batch() -> AttackBatch:
    network = random_network("small", MNIST).requires_grad_(False)
    images = random_images(MNIST, 3)
    labels = network(images).argmax(dim=1)
    folded = FoldedNetwork(network, MNIST)
    indices = np.array([5, 9, 2])
    return AttackBatch(network, folded, images, labels, indices, np.random.RandomState(0))


@pytest.fixture(scope="module")
def arrays(batch: AttackBatch) -> dict[str, np.ndarray]:
    return _attack_batch(batch, SimpleNamespace(attack=attack), OPTIONS)


@pytest.mark.parametrize("target_class", [None, 4])
def test_attack_is_pgd_away_from_the_label_or_to_a_target(
    batch: AttackBatch, target_class: int | None
) -> None:
    classes, sign = batch.labels, 1
    if target_class is not None:
        classes, sign = torch.tensor([target_class] * 3), -1
    images = batch.images.clone()
    for _ in range(3):
        images.requires_grad_()
        loss = sign * F.cross_entropy(batch.network(images), classes)
        (gradient,) = torch.autograd.grad(loss, images)
        images = images + 0.04 * gradient.sign()
        images = images.clamp(batch.images - 0.1, batch.images + 0.1).clamp(0, 1).detach()
    (output,) = attack(
        batch, pgd_eps=0.1, steps=3, step_size=0.04, target_class=target_class, ig_steps=1
    )
    assert output.axis_value == 3
    assert torch.equal(output.images[0], batch.images)
    # The sign of a vanishing gradient may differ.
    is_equal = (output.images[1] - images).abs() < 1e-6
    assert is_equal.float().mean() > 0.999


def test_other_class_is_the_best_but_the_true_one(
    batch: AttackBatch, arrays: dict[str, np.ndarray]
) -> None:
    logits = batch.network(torch.from_numpy(arrays["image"][:, 1, 0]))
    for n, label in enumerate(batch.labels.tolist()):
        ranked = [c for c in logits[n].argsort(descending=True).tolist() if c != label]
        assert arrays["target"][n].tolist() == [[ranked[0]], [ranked[0]]]
    assert arrays["prediction"][:, 0, 0].tolist() == batch.labels.tolist()
    (weak,) = attack(batch, pgd_eps=1e-9, ig_steps=1)
    second_best = batch.network(batch.images).argsort(dim=1)[:, -2]
    assert weak.extras["target"][1].tolist() == second_best.tolist()


@pytest.mark.parametrize("kind", INTERPRETERS)
def test_maps_are_of_both_images_and_classes_and_tau_is_scipys(
    kind: Any, batch: AttackBatch, arrays: dict[str, np.ndarray]
) -> None:
    shape = MNIST if kind == "ig" else (7, 7)
    tau = arrays[f"kendall_tau_{kind}"]
    assert arrays[kind].shape == (3, 2, 1, 2, *shape)  # image, point, step count, class
    assert tau.shape == (3, 2, 1, 2)
    for point in range(2):
        images = torch.from_numpy(arrays["image"][:, point, 0])
        all_maps = interpret(batch.network, images, kind, ig_steps=4).numpy()
        for n, k in np.ndindex(3, 2):
            c = int((batch.labels[n], arrays["target"][n, 0, 0])[k])
            values = arrays[kind][n, point, 0, k]
            np.testing.assert_allclose(values, all_maps[n, c], atol=1e-5)
            expected = kendalltau(arrays[kind][n, 0, 0, k], values).statistic
            assert tau[n, point, 0, k] == pytest.approx(expected, abs=1e-12)
    assert arrays[f"tau_defined_{kind}"].all()
    assert tau[:, 1].max() < 0.999


def test_indices_name_images_and_leave_the_generator_where_it_was() -> None:
    images = Images(torch.arange(20.0).view(20, 1, 1, 1) / 20, torch.arange(20))
    cpu = torch.device("cpu")
    options = {"images": 3, "seed": 99, "indices": None}
    drawn, rng = draw_sample(images, options, cpu)
    named, other_rng = draw_sample(images, options | {"indices": [7, 2]}, cpu)
    assert drawn.indices.tolist() == np.random.RandomState(99).permutation(20)[:3].tolist()
    assert named.indices.tolist() == named.labels.tolist() == [7, 2]
    assert rng.randint(10**9) == other_rng.randint(10**9)
    message = r"^attack option indices: 20, but the test set has 20$"
    with pytest.raises(IrpipeError, match=message):
        draw_sample(images, options | {"indices": [1, 20]}, cpu)


def test_variant_reaches_the_interpreters(batch: AttackBatch) -> None:
    (released,) = attack(batch, steps=1, ig_steps=2)
    (original,) = attack(batch, steps=1, ig_steps=2, interpreter_variant="original")
    torch.testing.assert_close(released.extras["cam"], 49 * original.extras["cam"])
    assert not torch.allclose(released.extras["ig"], original.extras["ig"], atol=1e-3)


def test_rule_reaches_the_interpreter(batch: AttackBatch) -> None:
    (by_quadrature,) = attack(batch, steps=1, ig_steps=20)
    (by_sum,) = attack(batch, steps=1, ig_steps=20, ig_rule="sum")
    assert not torch.equal(by_quadrature.extras["ig"], by_sum.extras["ig"])
    torch.testing.assert_close(by_quadrature.extras["ig"], by_sum.extras["ig"])


# --- the figure ---


def make_result(batch: AttackBatch, arrays: dict[str, np.ndarray], method: str) -> Result:
    attrs = {
        "dataset": "mnist",
        "model": "small",
        "method": method,
        "run": "released",
        "attack": "pgd_maps",
        "kind": "pgd_maps",
        "code_hash": "c",
        "class_names": [f"class {c}" for c in range(10)],
        "options": OPTIONS,
    }
    return Result(attrs, arrays | {"indices": batch.indices, "label": batch.labels.numpy()})


def test_figure_has_equal_bytes_and_names_its_classes(
    batch: AttackBatch, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    results = [make_result(batch, arrays, method) for method in ("int", "normal")]
    first = saliency_maps.report(results, tmp_path / "a", title="T", image=9)
    again = saliency_maps.report(results[::-1], tmp_path / "b", title="T", image=9)
    assert [path.suffix for path in first] == [".png", ".pdf", ".svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    svg = first[2].read_text(encoding="utf-8")
    taus = [arrays[f"kendall_tau_{kind}"][1, 1, 0, k] for kind in INTERPRETERS for k in range(2)]
    texts = [
        f"true: class {batch.labels[1]}",
        f"other: class {arrays['target'][1, 0, 0]}",
        "adversarial,",
        "ε = 0.1",
        *(f"τ = {tau:.2f}" for tau in taus),
        "MNIST, Small, Int",
    ]
    for text in texts:
        assert svg.count(f"<!-- {text} -->") >= 1, text


def test_figure_shows_each_map_over_its_image(
    batch: AttackBatch,
    arrays: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn_maps: list[tuple[np.ndarray, np.ndarray, float]] = []
    monkeypatch.setattr(
        saliency_maps, "_draw_map", lambda panel, *values: drawn_maps.append(values)
    )
    saliency_maps.report([make_result(batch, arrays, "int")], tmp_path / "f", title="T", image=5)
    order = [(kind, k, point) for kind in INTERPRETERS for k in range(2) for point in range(2)]
    for (kind, k, point), (pixels, values, scale) in zip(order, drawn_maps, strict=True):
        maps = arrays[kind][0, :, 0]
        expected = maps[point, k] if kind != "ig" else maps[point, k].sum(axis=0)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(pixels, arrays["image"][0, point, 0])
        assert scale == np.abs(maps).max()  # MNIST has one colour, so a sum over colours is a map


def test_image_shown_is_the_one_asked_for_or_the_first_that_changed_class(
    batch: AttackBatch,
) -> None:
    arrays = {
        "indices": batch.indices,
        "label": np.array([4, 0, 3]),
        "target": np.ones((3, 2, 1)),
        "prediction": np.array([[[4], [4]], [[5], [1]], [[3], [1]]]),
    }
    result = Result({}, arrays)
    assert [saliency_maps._row(result, index, [result], "f") for index in (None, 5, 9, 2)] == [
        2,
        0,
        1,
        2,
    ]
    # Both classify images 0 and 2, and only at 0 do they differ under attack.
    other = Result({}, arrays | {"prediction": np.array([[[4], [1]], [[0], [0]], [[3], [1]]])})
    rows = [saliency_maps._row(one, None, [result, other], "f") for one in (result, other)]
    assert rows == [0, 0]


def test_figure_says_what_it_lacks(
    batch: AttackBatch, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    results = [make_result(batch, arrays, "int")]
    message = r"^f: mnist/small/int/released/pgd_maps does not have test image 3$"
    with pytest.raises(IrpipeError, match=message):
        saliency_maps.report(results, tmp_path / "f", title="T", image=3)
    message = r"^f: no result of attack 'pgd_maps' is of method adv or trades$"
    with pytest.raises(IrpipeError, match=message):
        saliency_maps.report(results, tmp_path / "f", title="T", methods=["adv", "trades"])
