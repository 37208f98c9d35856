"""The sneaking attack against a loop that does what protocol C.5 says, one image at a time; the released network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from irpipe import config
from irpipe.ascent import Case
from irpipe.attacks import Outcome, isa
from irpipe.evaluate import _run, evaluate
from irpipe.hardware import device
from irpipe.io import write_checkpoint
from irpipe.models import Folded, Network, build
from irpipe.optimise import draw_weights
from irpipe.published import Measure, resistances
from irpipe.released import convert
from irpipe.reports.parts import nds

SHAPE = (1, 16, 16)
QUICK: dict[str, Any] = {"penalties": [1, 1.4], "steps": 5, "rounds": 6, "reference": 2, "kappa": 0.01}


@pytest.fixture(scope="module")
def network() -> Network:
    made = build("small", SHAPE, 10)
    draw_weights(made, np.random.RandomState(99))
    with torch.no_grad():
        made.head *= 60  # margins that pass kappa within a step
    # one layout for one image and for many: |change| of a map has a kink where rounding alone says on which side it is
    return made.requires_grad_(False).eval().to(memory_format=torch.contiguous_format)


def case_of(network: Network, rows: slice = slice(None), rng: np.random.RandomState | None = None) -> Case:
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    folded = Folded(network, SHAPE)
    return Case(network, folded, images[rows], labels[rows], np.arange(5)[rows], rng or np.random.RandomState(11))


# --- a plain loop ----------------------------------------------------------------------------------------


class Plain(NamedTuple):
    """One image's attack as the released code makes it: everything in plain numbers, nothing shared."""

    network: Network
    image: Tensor
    true: int
    target: int
    maps: Callable[[Tensor], list[Tensor]]  # those that count
    norm: str
    reference: int
    steps: int
    rounds: int

    def margin(self, moved: Tensor) -> Tensor:
        logits = self.network(moved)[0]
        return torch.stack([logits[j] for j in range(10) if j != self.target]).max() - logits[self.target]

    def discrepancy(self, moved: Tensor) -> Tensor:
        total = torch.zeros(())
        for new, old in zip(self.maps(moved), self.maps(self.image.float()), strict=True):
            change = (new - old.detach()).flatten()
            total = total + (change.abs().sum() if self.norm == "l1" else (change * change).sum())
        return total

    def run(self, eps: float, gamma: float, maps: int) -> Tensor:
        moved = self.image.clone()
        for _ in range(self.steps):
            point = moved.float().requires_grad_()
            loss = torch.clamp(self.margin(point), min=-QUICK["kappa"])
            if gamma:
                loss = loss + gamma * self.discrepancy(point) / maps
            gradient = torch.autograd.grad(loss / self.reference, point)[0]
            moved = moved - 0.2 * eps * (1000 * gradient).clamp(-1, 1).double()
            moved = torch.maximum(torch.minimum(moved, self.image + eps), self.image - eps).clamp(0, 1)
        return moved

    def attack(self, penalty: float, maps: int) -> tuple[float, float, Tensor, Tensor]:
        """The smallest radius, gamma, the plain attack's image, the sneaking one."""
        eps, low, high = 0.05, 0.0, 1.0
        for _ in range(self.rounds):
            if self.margin(self.run(eps, 0, maps).float()) < 0:
                high = eps
                eps = (low + high) / 2
            else:
                low = eps
                eps = min(2 * eps, (low + high) / 2)
        smallest = high
        gamma, low, high = 5e-5, 0.0, 1.0
        for _ in range(self.rounds):
            if self.margin(self.run(penalty * smallest, gamma, maps).float()) < 0:
                low = gamma
                gamma = min(2 * gamma, (low + high) / 2)
            else:
                high = gamma
                gamma = (low + high) / 2
        return smallest, low, self.run(smallest, 0, maps), self.run(penalty * smallest, low, maps)


def maps_of(network: Network, interpreter: str, columns: list[int]) -> Callable[[Tensor], list[Tensor]]:
    def maps(images: Tensor) -> list[Tensor]:
        features = network.features(images)[0]
        if interpreter == "repr":
            return [features]
        head = network.head.clamp(min=0) if interpreter == "gradcampp" else network.head
        return [(head[c, :, None, None] * features).sum(dim=0) for c in columns]

    return maps


@pytest.mark.parametrize(
    ("interpreter", "norm", "classes"),
    [
        ("cam", "l1", "two"),
        ("cam", "l2", "one"),
        ("cam", "l1", "all"),
        ("gradcampp", "l2", "two"),
        ("repr", "l1", "two"),
    ],
)
def test_attack_equals_a_plain_loop(network: Network, interpreter: Any, norm: str, classes: str) -> None:
    case = case_of(network)
    target = (case.labels.numpy() + 1 + np.random.RandomState(11).randint(9, size=5)) % 10
    (found,) = isa.attack(case, interpreter=interpreter, norms=[norm], classes=[classes], **QUICK)
    assert found.bound is not None
    assert found.images.shape == (3, 5, *SHAPE)
    assert found.extra["target"].tolist() == [target.tolist()] * 3
    for row in range(5):
        true, wanted = int(case.labels[row]), int(target[row])
        columns = {"one": [true], "two": [true, wanted], "all": list(range(10))}[classes]
        count = 1 if interpreter == "repr" else len(columns)
        maps = maps_of(network, interpreter, columns)
        plain = Plain(network, case.images[row : row + 1].double(), true, wanted, maps, norm, 2, 5, 6)
        for place, penalty in enumerate(QUICK["penalties"], 1):
            smallest, gamma, first, last = plain.attack(penalty, count)
            assert found.extra["smallest"][place, row].item() == smallest
            assert found.bound[[0, place], row].tolist() == pytest.approx([smallest, penalty * smallest])
            assert found.extra["gamma"][[0, place], row].tolist() == pytest.approx([0, gamma])
            for at, image in ((0, first), (place, last)):
                torch.testing.assert_close(found.images[at, row], image[0], rtol=0, atol=1e-5)
                expected = plain.discrepancy(image.float()).item() / count
                assert found.extra["discrepancy"][at, row].item() == pytest.approx(expected, rel=1e-3)
    assert 0 < found.extra["gamma"][1:].min() < found.extra["gamma"].max()  # the search did something


# --- what it does not depend on, what it switches --------------------------------------------------------


def outcomes(case: Case, **options: Any) -> list[Outcome]:
    return list(isa.attack(case, **(QUICK | {"norms": ["l1"], "classes": ["one", "two"]} | options)))


def assert_same(found: list[Outcome], expected: list[Outcome]) -> None:
    assert [one.at for one in found] == [one.at for one in expected] == [0, 1]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.images, theirs.images, rtol=0, atol=1e-5)
        for name, values in theirs.extra.items():
            torch.testing.assert_close(ours.extra[name], values, rtol=1e-3, atol=1e-5)


def test_images_do_not_depend_on_their_batch(network: Network) -> None:
    whole, rng = outcomes(case_of(network)), np.random.RandomState(11)
    first, second = (outcomes(case_of(network, rows, rng)) for rows in (slice(3), slice(3, 5)))
    joined = [
        Outcome(
            a.at, torch.cat([a.images, b.images], 1), None, {k: torch.cat([a.extra[k], b.extra[k]], 1) for k in a.extra}
        )
        for a, b in zip(first, second, strict=True)
    ]
    assert_same(joined, whole)


def test_images_do_not_depend_on_the_memory(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outcomes(case_of(network))
    monkeypatch.setattr(isa, "MEMORY", 1)
    assert_same(outcomes(case_of(network)), whole)


def test_memory_of_one_image() -> None:
    image = torch.rand(1, 1, 4, 4)
    assert isa._held(lambda moved: moved.square().exp().sum(dim=(1, 2, 3)), image) == 2 * 16 * 4


def test_steps_saturate_and_stay_in_the_ball() -> None:
    images, radius = torch.full((2, 1, 1, 2), 0.5).double(), torch.tensor([0.1, 0.6]).double()
    weight = torch.tensor([[2.0, -0.5], [2.0, -0.5]])[:, None, None]
    options: dict[str, Any] = {"steps": 2, "step_size": 0.2, "slope": 1.0}
    found = isa._descend(images, radius, lambda moved: (weight * moved).sum(dim=(1, 2, 3)), **options)
    expected = torch.tensor([[0.5 - 0.04, 0.5 + 0.02], [0.5 - 0.24, 0.5 + 0.12]]).double()
    torch.testing.assert_close(found[:, 0, 0], expected)
    found = isa._descend(images, radius, lambda moved: (weight * moved).sum(dim=(1, 2, 3)), **options | {"slope": None})
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([[0.46, 0.54], [0.26, 0.74]]).double())
    found = isa._descend(images, radius, lambda moved: (weight * moved).sum(dim=(1, 2, 3)), **options | {"steps": 9})
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([[0.4, 0.59], [0.0, 1.0]]).double())


def test_search_by_hand() -> None:
    tried = []

    def rises(value: Tensor) -> Tensor:
        tried.append(value.tolist())
        return value < torch.tensor([0.3, 2.0, 0.0])

    low, high = isa.bisect(rises, torch.full((3,), 0.1), 1, rounds=5)
    expected = [[0.1] * 3, [0.2, 0.2, 0.05], [0.4, 0.4, 0.025], [0.3, 0.7, 0.0125], [0.25, 0.85, 0.00625]]
    torch.testing.assert_close(torch.tensor(tried), torch.tensor(expected))
    torch.testing.assert_close(torch.stack([low, high]), torch.tensor([[0.25, 0.85, 0], [0.3, 1, 0.00625]]))


def test_search_to_a_tolerance_finds_what_the_rounds_do_not_reach() -> None:
    edge = torch.tensor([3e-5, 0.01, 0.2, 50.0, torch.inf]).double()
    first = torch.full((5,), isa.FIRST_WEIGHT).double()
    low, high = isa.bisect(lambda value: value < edge, first, 1, rounds=10)
    assert low.max().item() == pytest.approx(0.0256)  # C.5 I1
    assert (high == 1).tolist() == [False, False, True, True, True]
    low, high = isa.bisect(lambda value: value < edge, first, torch.inf, 10, tolerance=0.01)
    assert (low < edge).all()
    assert (high >= edge).all()
    assert (high[:4] - low[:4] <= 0.01 * high[:4]).all()
    assert (high == torch.inf).tolist() == [False] * 4 + [True]
    alone, _ = isa.bisect(lambda value: value < edge[:2], first[:2], torch.inf, 10, tolerance=0.01)
    assert alone.tolist() == low[:2].tolist()  # others go on, these rest


def test_short_searches_are_capped_and_converged_ones_go_further(network: Network) -> None:
    short = outcomes(case_of(network), rounds=1)
    found = outcomes(case_of(network), rounds=6, tolerance=0.05)
    truncated = outcomes(case_of(network), rounds=6)
    for one in short:
        capped = one.extra["capped"][1:]
        assert one.extra["gamma"][1:][capped].tolist() == pytest.approx([isa.FIRST_WEIGHT] * int(capped.sum()))
        assert capped.any()
    assert not any(one.extra["capped"].any() for one in found)
    for far, near in zip(found, truncated, strict=True):
        assert not far.extra["capped"][0].any()
        capped = near.extra["capped"]
        assert (far.extra["gamma"][capped] > 2 * near.extra["gamma"][capped]).all()


# --- results ---------------------------------------------------------------------------------------------


def test_record_is_of_the_plain_network(network: Network) -> None:
    case = case_of(network)
    spec = config.resolved("attacks", {"kind": "isa", "images": 5, **QUICK, "classes": ["two"]}, "test")
    found = _run(case, isa, spec)
    assert found["specification"].tolist() == [0, 1]
    assert found["valid"].shape == (5, 3, 2)
    assert (found["radius"] <= found["smallest"] * np.array([1, 1, 1.4])[None, :, None] + 1e-6).all()
    moved = next(isa.attack(case_of(network), norms=["l1"], classes=["two"], **QUICK)).images.float()
    target = torch.from_numpy(found["target"][:, 0, 0])
    for row in range(5):
        clean, true, wanted = network.maps(case.images)[row], case.labels[row], target[row]
        assert wanted != true
        for place in range(3):
            logits, maps = network(moved[place])[row], network.maps(moved[place])[row]
            quotients = [(maps[c] - clean[c]).abs().sum() / (clean[c].max() - clean[c].min()) for c in (true, wanted)]
            assert found["normalised"][row, place, 0] == pytest.approx(float(sum(quotients) / 2), rel=1e-4)
            assert found["valid"][row, place, 0] == bool(logits[wanted] >= logits[true])
    assert not found["degenerate"].any()
    assert found["valid"].any()


def test_images_that_prefer_their_target_before_the_attack_do_not_count(network: Network) -> None:
    case = case_of(network)
    with torch.no_grad():
        ranks = network(case.images).argsort(dim=1)
    target, specification = ranks[:, -1], isa.Specification("l1", "one")
    unsure = Case(network, case.folded, case.images, ranks[:, -2], case.index, case.rng)
    view = isa._View("cam", "code", 100)
    assert not isa._measured(unsure, case.images[None], target, view, specification)["valid"].any()
    assert isa._measured(case, case.images[None], target, view, specification)["valid"].all()  # equal is not before


@pytest.fixture(scope="module")
def released(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "network.safetensors"
    file = shared / "released" / "networks" / "mnist_smallgap_normal_100.pkl"
    write_checkpoint(path, convert(file, "mnist", {"kind": "mnist"}, "small", "normal"))
    return path


def test_table_1_with_the_released_network(shared: Path, released: Path) -> None:
    """CAM, l1, the first and last penalty only, for time; docs/reproduction.md has the whole table."""
    spec = config.resolved("attacks", {"kind": "isa", "norms": "l1", "penalties": [1, 1.6]}, "test")
    result = evaluate(released, "isa", spec, shared / "datasets", device("cpu"), "test")
    one, two, all_ = (nds.of(result, place) for place in range(3))
    for place, found in enumerate((one, two, all_)):
        printed = resistances()[Measure("mnist", "small", "normal", "cam", *nds.measured_by(result)[place])]
        assert found.nds == pytest.approx(printed.nds, rel=0.15)
        assert found.images > 80
    assert two.nds > max(one.nds, all_.nds)
    assert two.nsl_per_image < min(one.nsl_per_image, all_.nsl_per_image)
    assert (result.arrays["prediction"] == result.arrays["target"]).mean() > 0.95
