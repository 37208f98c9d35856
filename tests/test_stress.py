"""The strong attack by hand, AutoAttack's rounds, transfer between networks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from irpipe import evaluate, spec
from irpipe.ascent import Case
from irpipe.attacks import autoattack, strong, transfer
from irpipe.attacks.parts import margin
from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint, Result, read_checkpoint, write_checkpoint
from irpipe.models import Folded, Network, build
from irpipe.optimise import draw_weights
from irpipe.reports.parts.selection import select

SHAPE = (1, 8, 8)


class Line:
    """A classifier of one-pixel images by given logits of the pixel."""

    def __init__(self, *slopes: float, offset: float = 0.0) -> None:
        self.slopes, self.offset = torch.tensor(slopes), offset

    def __call__(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.offset) * self.slopes


def drawn(*values: float) -> Any:
    """A generator whose uniform draws are these shares of the radius."""

    class Fixed:
        rest = list(values)

        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
            return np.array([self.rest.pop(0) for _ in range(int(np.prod(shape)))]).reshape(shape)

    return Fixed()


def one_pixel(network: Any, pixels: list[float], labels: list[int], rng: Any) -> Case:
    images = torch.tensor(pixels, dtype=torch.float64).view(-1, 1, 1, 1)
    return Case(network, network, images, torch.tensor(labels), np.arange(len(pixels)), rng)


# --- the strong attack, by hand --------------------------------------------------------------------------


def test_steps_fall_from_the_radius() -> None:
    # class 0 is right below .5; from .1 at radius .3 by steps of .3, .2, .1: to the edge at once
    case = one_pixel(Line(0.0, 1.0, offset=0.5), [0.1], [0], drawn(-1.0))
    ((at, images, _, extra),) = strong.attack(case, eps=[0.3], steps=[3], restarts=1)
    assert at == 3
    assert images.item() == pytest.approx(0.4)
    # from -1 (clipped to 0) by 1/2 and 1/4 of .3, the path is .0 + .3 = .3, then .3 + .15 = .4 (the edge)
    begin, radius = torch.zeros(1, 1, 1, 1).double(), torch.tensor(0.3)
    for count, end in ((1, 0.3), (2, 0.4)):
        point, lead, right = strong._climb(case, count, "margin", "last", begin, case.images, radius, case.labels)
        assert (point.item(), lead.item()) == pytest.approx((end, end - 0.5))
        assert right.item()
    assert extra["last"].tolist() == [[True]]


def test_the_worst_iterate_is_kept_over_starts_and_steps() -> None:
    # the margin is 1 - 4 |x - .5| of a wrong peak at .5: the first step from .2 lands past it
    class Peak:
        def __call__(self, images: Tensor) -> Tensor:
            wrong = 0.35 - (images.flatten(1) - 0.5).abs()
            return torch.cat([torch.full_like(wrong, 0.3), wrong], dim=1)

    # radius .4 around .5 from .1 (draw -1): steps .4, .2 go to .5 (margin .05), then .5 has slope 0 at the kink
    case = one_pixel(Peak(), [0.5], [0], drawn(-0.9))
    path = [0.14 + 0.4, 0.54 - 0.2]
    ((_, images, _, extra),) = strong.attack(case, eps=[0.4], steps=[2], restarts=1)
    assert images.item() == pytest.approx(path[0])  # margin .01; the last iterate's is -.11
    assert extra["last"].tolist() == [[True]]
    case = one_pixel(Peak(), [0.5], [0], drawn(-0.9))
    ((_, images, _, _),) = strong.attack(case, eps=[0.4], steps=[2], restarts=1, iterate="last")
    assert images.item() == pytest.approx(path[1])


def test_a_later_start_takes_up_what_is_still_right() -> None:
    # wrong above .45: the first start of both goes up; only the image at .1 (to .4) stays right and is tried again
    case = one_pixel(Line(0.0, 1.0, offset=0.45), [0.1, 0.4], [0, 0], drawn(0.0, 0.0, 0.5, 0.5))
    seen, folded = [], case.folded

    def spy(images: Tensor) -> Tensor:
        seen.append(len(images))
        return folded(images)

    case = dataclasses.replace(case, folded=spy)  # type: ignore[arg-type]
    ((_, images, _, _),) = strong.attack(case, eps=[0.3], steps=[1], restarts=2)
    assert images.flatten().tolist() == pytest.approx([0.4, 0.7])
    assert seen == [2, 2, 2, 1, 1]  # gradient at the clean images; step and margin of each start
    assert not case.rng.rest  # draws do not depend on success


def test_gradient_of_each_images_own_cross_entropy() -> None:
    # logits 0 and 4x: the loss of class 0 has the slope 4 p1, with p1 = 1 / (1 + e^-4x)
    case = one_pixel(Line(0.0, 4.0), [0.0, 0.5], [0, 0], drawn(*[0.0] * 4))
    ((_, _, _, extra),) = strong.attack(case, eps=[0.1, 0.2], steps=[1], restarts=1)
    expected = [4 / 2, 4 / (1 + np.exp(-2))]
    np.testing.assert_allclose(extra["gradient"], [expected, expected], rtol=1e-6)


def test_cross_entropy_loses_its_gradient_where_the_margin_keeps_it() -> None:
    # logits 0 and 1000 (x - .5): from .2 the cross-entropy's gradient is 1000 e^-300 = 0 in float32
    for loss, reached in (("margin", 0.4), ("cross_entropy", 0.2)):
        case = one_pixel(Line(0.0, 1000.0, offset=0.5), [0.2], [0], drawn(0.0))
        ((_, images, _, extra),) = strong.attack(case, eps=[0.2], steps=[1], restarts=1, loss=loss)  # type: ignore[arg-type]
        assert images.item() == pytest.approx(reached)
        assert extra["gradient"].item() == 0


# --- networks ----------------------------------------------------------------------------------------------


def made(seed: int, shape: tuple[int, ...] = SHAPE, classes: int = 4) -> Network:
    network = build("small", shape, classes)
    draw_weights(network, np.random.RandomState(seed))
    return network.requires_grad_(False).eval()


@pytest.fixture
def case() -> Case:
    network = made(1)
    images = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 4  # one clean mistake
    return Case(network, Folded(network, SHAPE), images, labels, np.arange(12), np.random.RandomState(11))


def scored(case: Case, kind: Any, eps: list[float], **options: Any) -> dict[str, np.ndarray]:
    """Through the evaluator, which checks the images."""
    resolved = {"kind": kind.__name__.split(".")[-1], "eps": eps, **options}
    return evaluate._run(case, kind, resolved)


def test_more_starts_never_leave_more_right(case: Case) -> None:
    right = []
    for restarts in (1, 4):
        fresh = dataclasses.replace(case, rng=np.random.RandomState(5))
        found = scored(fresh, strong, [0.0, 0.01, 0.03, 0.1], steps=[1, 5], restarts=restarts)
        right.append(found["correct"])
        assert not found["correct"][0].any()
        assert (found["correct"] <= found["last"])[1:, 1:].all()
    assert (right[1] <= right[0]).all()
    assert right[0][:, 0].sum() > right[0][:, 1].sum() > right[0][:, 3].sum()


# --- AutoAttack --------------------------------------------------------------------------------------------


def test_each_component_attacks_what_the_last_left(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[int]]] = []
    wins = {"apgd-ce": 1, "square": 2}
    predicted = case.network(case.images).argmax(dim=1)

    def fake(case: Case, component: str, steps: int, queries: int, seed: int) -> Any:
        def run(radius: float, left: Tensor) -> Tensor:
            images, labels = case.images[left], case.labels[left]
            asked.append((component, labels.tolist()))
            others = torch.stack([case.images[(predicted != label).nonzero()[0, 0]] for label in labels])
            found = images.clone()
            found[: wins[component]] = others[: wins[component]]
            return found

        return run

    monkeypatch.setattr(autoattack, "_seeded", fake)
    before = case.images.clone()
    found = scored(case, autoattack, [1.0], components=["apgd-ce", "square"])
    labels = case.labels.tolist()
    assert asked[0] == ("apgd-ce", labels[1:])  # all but the clean mistake
    beaten = found["beaten"][:, 0, 0].tolist()
    assert beaten[0] == 0
    assert beaten[1:4] == [1, 2, 2]
    assert asked[1] == ("square", labels[2:])
    assert (found["correct"][:, 0, 0] == (np.arange(12) > 3)).all()
    assert torch.equal(case.images, before)


@pytest.mark.parametrize("component", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_every_component_wins_within_the_radius(component: str, case: Case) -> None:
    state = torch.get_rng_state()
    options: dict[str, Any] = {"components": [component], "steps": 20, "queries": 300}
    found = scored(case, autoattack, [0.0, 0.02, 0.2], **options)
    accuracy = found["correct"][:, :, 0].mean(axis=0)
    assert accuracy[0] == pytest.approx(11 / 12)
    assert accuracy[2] < accuracy[0]
    assert accuracy[2] <= accuracy[1]
    assert found["radius"].max() <= 0.2 + 1e-6
    won = found["beaten"][:, 1:, 0] > 0
    assert (won == ~found["correct"][:, 1:, 0])[1:].all()
    assert torch.equal(torch.get_rng_state(), state)
    again = scored(dataclasses.replace(case, rng=np.random.RandomState(11)), autoattack, [0.0, 0.02, 0.2], **options)
    np.testing.assert_array_equal(found["loss"], again["loss"])


def test_nothing_is_left_to_attack(case: Case) -> None:
    found = scored(case, strong, [1.0], steps=[3], restarts=3)
    assert not found["correct"].any()
    found = scored(case, autoattack, [1.0], components=["apgd-ce", "square"], steps=10, queries=10)
    assert not found["correct"].any()
    assert found["beaten"][:, 0, 0].tolist() == [0] + [1] * 11


def test_the_ensemble_is_no_weaker_than_the_strong_attack(case: Case) -> None:
    rivals = [scored(case, strong, [0.03], steps=[20]), scored(case, autoattack, [0.03], steps=20, queries=200)]
    left = [found["correct"].sum() for found in rivals]
    assert left[1] <= left[0] + 1
    assert left[1] < 11


def test_without_torchattacks_the_extra_is_named(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchattacks", None)
    with pytest.raises(IrpipeError, match=r"torchattacks is missing; pip install 'irpipe\[stress\]'"):
        list(autoattack.attack(case, eps=[0.1]))


def test_the_standard_version_is_the_default() -> None:
    resolved = spec.resolve("attacks", {"kind": "autoattack", "eps": 0.3}, "here")
    assert resolved["components"] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert (resolved["steps"], resolved["queries"]) == (100, 5000)
    assert spec.resolve("attacks", {"kind": "autoattack", "components": "square"}, "here")["components"] == ["square"]
    with pytest.raises(IrpipeError, match=r"here\.components.*apgd-dlr"):
        spec.resolve("attacks", {"kind": "autoattack", "components": ["apgd-dlr"]}, "here")


# --- transfer ----------------------------------------------------------------------------------------------


def checkpoint(folder: Path, network: nn.Module, dataset: str = "mnist") -> str:
    path = folder / f"{len(list(folder.iterdir()))}.safetensors"
    about = {"dataset": dataset, "data": {"kind": dataset}, "model": "small", "method": "adv", "run": "released"}
    write_checkpoint(path, Checkpoint(about, network.state_dict()))
    return str(path)


@pytest.fixture
def digits() -> Case:
    network = made(1, (1, 28, 28), 10)
    images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    return Case(network, Folded(network, (1, 28, 28)), images, labels, np.arange(6), np.random.RandomState(11))


def test_transfer_shows_each_image_the_worst_of_the_sources(digits: Case, tmp_path: Path) -> None:
    others = [made(seed, (1, 28, 28), 10) for seed in (2, 3)]
    sources = [checkpoint(tmp_path, network) for network in (others[0], digits.network, others[1])]
    (found,) = transfer.attack(digits, eps=[0.1, 0.3], sources=sources, steps=4)
    rng, margins = np.random.RandomState(11), []
    for other in others:
        twin = dataclasses.replace(digits, network=other, folded=Folded(other, (1, 28, 28)), rng=rng)
        (alone,) = strong.attack(twin, eps=[0.1, 0.3], steps=[4], restarts=1)
        margins.append(torch.stack([margin.margins(digits.folded, images, digits.labels) for images in alone.images]))
    torch.testing.assert_close(
        torch.stack([margin.margins(digits.folded, images, digits.labels) for images in found.images]),
        torch.maximum(*margins),
    )
    expected = torch.where(margins[1] > margins[0], 3, 1)  # the second is the network itself
    assert found.extra["source"].tolist() == expected.tolist()
    assert {1, 3} == set(expected.flatten().tolist())
    white = scored(dataclasses.replace(digits, rng=rng), strong, [0.1], steps=[4])["correct"].sum()
    black = scored(dataclasses.replace(digits, rng=rng), transfer, [0.1], sources=sources, steps=4)["correct"].sum()
    assert white < black


def test_transfer_records_the_hashes_of_its_sources(digits: Case, tmp_path: Path) -> None:
    """Results of other sources at the same place are not shown together."""
    path = checkpoint(tmp_path, made(2, (1, 28, 28), 10))
    about = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "run": "released"}
    given = {"kind": "transfer", "sources": [path], "steps": 1, "images": 4, "eps": 0.2}
    resolved = spec.resolve("attacks", given, "here")

    def run(method: str = "int") -> Result:
        subject = evaluate.Subject(digits.network, digits.folded, about | {"method": method}, "feed")
        return evaluate.examine(subject, "transfer", resolved, Path("unused"), torch.device("cpu"), "c0de")

    first = run()
    assert first.attrs["sources_sha256"] == [read_checkpoint(Path(path)).sha256]
    select([first, run("adv")], "transfer", "t")
    Path(path).unlink()
    assert checkpoint(tmp_path, made(3, (1, 28, 28), 10)) == path
    with pytest.raises(IrpipeError, match=r"is from source networks .* with the same source networks"):
        select([first, run("adv")], "transfer", "t")


def test_transfer_wants_other_networks_of_the_same_images(digits: Case, tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="all are the network itself"):
        list(transfer.attack(digits, eps=[0.1], sources=[checkpoint(tmp_path, digits.network)]))
    colour = checkpoint(tmp_path, made(1, (3, 32, 32), 10), "cifar10")
    with pytest.raises(IrpipeError, match="images of another shape"):
        list(transfer.attack(digits, eps=[0.1], sources=[colour]))
