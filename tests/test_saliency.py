"""Figure 1: the attack against a plain loop, its maps and their tau by hand, and what the figure shows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from test_models import MNIST, random_images, random_network
from torch.nn import functional as F

from irpipe.ascent import Case
from irpipe.attacks.saliency import attack
from irpipe.data import Images
from irpipe.errors import IrpipeError
from irpipe.evaluate import _run, sample
from irpipe.io import Result
from irpipe.maps.interpret import interpret
from irpipe.models import Folded
from irpipe.reports import saliency
from irpipe.spec import resolve

SPEC = resolve("attacks", {"kind": "saliency", "radius": 0.1, "steps": 3, "step_size": 0.04, "points": 4}, "here")


@pytest.fixture(scope="module")
def case() -> Case:
    network, images = random_network("small", MNIST).requires_grad_(False), random_images(MNIST, 3)
    labels = network(images).argmax(dim=1)
    return Case(network, Folded(network, MNIST), images, labels, np.array([5, 9, 2]), np.random.RandomState(0))


@pytest.fixture(scope="module")
def arrays(case: Case) -> dict[str, np.ndarray]:
    return _run(case, SimpleNamespace(attack=attack), SPEC)


@pytest.mark.parametrize("target", [None, 4])
def test_attack_is_projected_gradient_descent_away_from_the_label_or_to_a_target(
    case: Case, target: int | None
) -> None:
    moved = case.images.clone()
    for _ in range(3):
        moved.requires_grad_()
        aim, sign = (case.labels, 1) if target is None else (torch.tensor([target] * 3), -1)
        (slope,) = torch.autograd.grad(sign * F.cross_entropy(case.network(moved), aim), moved)
        moved = (moved + 0.04 * slope.sign()).clamp(case.images - 0.1, case.images + 0.1).clamp(0, 1).detach()
    (outcome,) = attack(case, radius=0.1, steps=3, step_size=0.04, target=target, points=1)
    assert outcome.at == 3
    assert torch.equal(outcome.images[0], case.images)
    assert ((outcome.images[1] - moved).abs() < 1e-6).float().mean() > 0.999  # a vanishing slope may turn


def test_other_class_is_the_best_but_the_true_one(case: Case, arrays: dict[str, np.ndarray]) -> None:
    logits = case.network(torch.from_numpy(arrays["image"][:, 1, 0]))
    for n, label in enumerate(case.labels.tolist()):
        ranked = [c for c in logits[n].argsort(descending=True).tolist() if c != label]
        assert arrays["target"][n].tolist() == [[ranked[0]], [ranked[0]]]
    assert arrays["prediction"][:, 0, 0].tolist() == case.labels.tolist()
    (idle,) = attack(case, radius=1e-9, points=1)
    assert idle.extra["target"][1].tolist() == case.network(case.images).argsort(dim=1)[:, -2].tolist()


@pytest.mark.parametrize("kind", ["cam", "gradcampp", "ig"])
def test_maps_are_of_both_images_and_classes_and_tau_is_scipys(
    kind: Any, case: Case, arrays: dict[str, np.ndarray]
) -> None:
    shape = MNIST if kind == "ig" else (7, 7)
    assert arrays[kind].shape == (3, 2, 1, 2, *shape)  # image, point, step count, class
    assert arrays[f"tau_{kind}"].shape == (3, 2, 1, 2)
    for point in range(2):
        images = torch.from_numpy(arrays["image"][:, point, 0])
        whole = interpret(case.network, images, kind, points=4).numpy()
        for n, k in np.ndindex(3, 2):
            c = int((case.labels[n], arrays["target"][n, 0, 0])[k])
            ours = arrays[kind][n, point, 0, k]
            np.testing.assert_allclose(ours, whole[n, c], atol=1e-5)
            expected = kendalltau(arrays[kind][n, 0, 0, k], ours).statistic
            assert arrays[f"tau_{kind}"][n, point, 0, k] == pytest.approx(expected, abs=1e-12)
    assert arrays[f"defined_{kind}"].all()
    assert arrays[f"tau_{kind}"][:, 1].max() < 0.999


def test_places_name_images_and_leave_the_generator_where_it_was() -> None:
    images = Images(torch.arange(20.0).view(20, 1, 1, 1) / 20, torch.arange(20))
    drawn, _, one = sample(images, {"images": 3, "seed": 99, "places": None}, torch.device("cpu"))
    named, chosen, other = sample(images, {"images": 3, "seed": 99, "places": [7, 2]}, torch.device("cpu"))
    assert drawn.tolist() == np.random.RandomState(99).permutation(20)[:3].tolist()
    assert named.tolist() == chosen.labels.tolist() == [7, 2]
    assert one.randint(10**9) == other.randint(10**9)
    with pytest.raises(IrpipeError, match=r"^attack option places: 20, but the test set has 20$"):
        sample(images, {"images": 3, "seed": 99, "places": [1, 20]}, torch.device("cpu"))


def test_variant_reaches_the_interpreters(case: Case) -> None:
    (code,) = attack(case, steps=1, points=2)
    (literature,) = attack(case, steps=1, points=2, variant="literature")
    torch.testing.assert_close(code.extra["cam"], 49 * literature.extra["cam"])
    assert not torch.allclose(code.extra["ig"], literature.extra["ig"], atol=1e-3)


# --- the figure ------------------------------------------------------------------------------------------


def made(case: Case, arrays: dict[str, np.ndarray], method: str) -> Result:
    attrs = {"dataset": "mnist", "model": "small", "method": method, "run": "released", "attack": "saliency"}
    own = {"kind": "saliency", "code": "c", "classes": [f"class {c}" for c in range(10)], "spec": SPEC}
    return Result(attrs | own, arrays | {"index": case.index, "label": case.labels.numpy()})


def test_figure_has_equal_bytes_and_names_its_classes(
    case: Case, arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    results = [made(case, arrays, method) for method in ("int", "normal")]
    first = saliency.report(results, tmp_path / "a", title="T", image=9)
    again = saliency.report(results[::-1], tmp_path / "b", title="T", image=9)
    assert [path.suffix for path in first] == [".png", ".pdf", ".svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    drawn = first[2].read_text()
    other = arrays["target"][1, 0, 0]
    wanted = [f"<!-- true: class {case.labels[1]} -->", f"<!-- other: class {other} -->", "<!-- attacked, ε = 0.1 -->"]
    taus = [arrays[f"tau_{kind}"][1, 1, 0, k] for kind in ("cam", "gradcampp", "ig") for k in range(2)]
    for text in (*wanted, *(f"<!-- τ = {tau:.2f} -->" for tau in taus), "<!-- MNIST, Small, Int -->"):
        assert drawn.count(text) >= 1, text


def test_figure_shows_each_map_over_its_image(
    case: Case, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[np.ndarray, np.ndarray, float]] = []
    monkeypatch.setattr(saliency, "_overlay", lambda panel, *what: shown.append(what))
    saliency.report([made(case, arrays, "int")], tmp_path / "f", title="T", image=5)
    places = [(kind, k, point) for kind in ("cam", "gradcampp", "ig") for k in range(2) for point in range(2)]
    for (kind, k, point), (pixels, values, scale) in zip(places, shown, strict=True):
        maps = arrays[kind][0, :, 0]
        expected = maps[point, k] if kind != "ig" else maps[point, k].sum(axis=0)
        np.testing.assert_array_equal(values, expected)
        np.testing.assert_array_equal(pixels, arrays["image"][0, point, 0])
        assert scale == np.abs(maps).max()  # one colour, so the sum over colours is the map


def test_image_shown_is_the_one_asked_for_or_the_first_that_turned(case: Case, arrays: dict[str, np.ndarray]) -> None:
    turned = np.array([[[4], [4]], [[5], [1]], [[3], [1]]])
    label = np.array([4, 0, 3])
    result = Result({}, {"index": case.index, "label": label, "target": np.ones((3, 2, 1)), "prediction": turned})
    assert [saliency._row(result, place, "f") for place in (None, 5, 9, 2)] == [2, 0, 1, 2]


def test_figure_says_what_it_lacks(case: Case, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    results = [made(case, arrays, "int")]
    with pytest.raises(IrpipeError, match=r"^f: mnist/small/int/released/saliency does not have test image 3$"):
        saliency.report(results, tmp_path / "f", title="T", image=3)
    with pytest.raises(IrpipeError, match=r"^f: no result of attack 'saliency' is of method adv or trades$"):
        saliency.report(results, tmp_path / "f", title="T", methods=["adv", "trades"])
