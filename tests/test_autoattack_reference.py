"""AutoAttack's parts get what the reference's standard version gives its own (fra31/auto-attack, set_version)."""

from typing import Any

import numpy as np
import pytest
import torch
from test_stress import made

from irpipe.ascent import Case
from irpipe.attacks import autoattack
from irpipe.models import Folded

REFERENCE: dict[str, dict[str, Any]] = {  # of 10 classes; the ports' names of the same attributes
    "apgd-ce": {"steps": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "loss": "ce"},
    "apgd-t": {"steps": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "n_target_classes": 9},
    "fab-t": {"steps": 100, "n_restarts": 1, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9, "n_target_classes": 9},
    "square": {"n_queries": 5000, "n_restarts": 1, "p_init": 0.8, "rescale_schedule": False, "loss": "margin"},
}


@pytest.mark.parametrize("component", list(REFERENCE))
def test_settings_are_the_references(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    name = {"apgd-ce": "APGD", "apgd-t": "APGDT", "fab-t": "FAB", "square": "Square"}[component]
    seen: dict[str, Any] = {}

    class Spy(getattr(torchattacks, name)):  # type: ignore[misc]
        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.update(vars(self))
            return images

        attack_single_run_targeted = forward  # what of FAB is used

    monkeypatch.setattr(torchattacks, name, Spy)
    network = made(1, (1, 28, 28), 10)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    case = Case(network, Folded(network, (1, 28, 28)), images, labels, np.arange(3), np.random.RandomState(11))
    list(autoattack.attack(case, eps=[0.3], components=[component]))  # type: ignore[list-item]
    assert {key: seen[key] for key in REFERENCE[component]} == REFERENCE[component]
    assert seen["norm"] == "Linf"
    assert seen["multi_targeted"] if component == "fab-t" else seen["eps"] == 0.3


def test_fab_found_once_for_all_radii_beats_what_it_beats_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    network = made(1, (1, 28, 28), 10)
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    labels, radii = network(images).argmax(dim=1), [0.01, 0.002, 0.1]
    case = Case(network, Folded(network, (1, 28, 28)), images, labels, np.arange(12), np.random.RandomState(11))
    (found,) = autoattack.attack(case, eps=radii, components=["fab-t"], steps=20)
    alone = [torchattacks.FAB(network, eps=radius, steps=20, multi_targeted=True)(images, labels) for radius in radii]
    expected = torch.stack([network(moved).argmax(dim=1) != labels for moved in alone])
    assert torch.equal(found.extra["beaten"] > 0, expected)
    assert 0 < expected.sum() < expected.numel()
    for radius, moved, theirs in zip(radii, found.images, alone, strict=True):
        far, their = ((other - images).abs().flatten(1).amax(dim=1) for other in (moved, theirs))
        assert far.max() <= radius + 1e-6
        assert (far <= their + 1e-6).all()


def square() -> Any:
    """Square of 40 queries on twelve images, at the radius .2, as a function of those that are left."""
    network = made(1, (1, 28, 28), 10)
    images = torch.rand(12, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    labels, folded = network(images).argmax(dim=1), Folded(network, (1, 28, 28))
    case = Case(network, folded, images, labels, np.arange(12), np.random.RandomState(11))
    return lambda left: autoattack._seeded(case, "square", 1, 40, 7)(0.2, torch.tensor(left))


def test_what_square_finds_does_not_depend_on_what_is_left() -> None:
    whole, half = square()(list(range(12))), square()([11, 2, 5])
    assert torch.equal(half, whole[[11, 2, 5]])
    assert len({tuple(image.flatten().tolist()) for image in whole}) == 12


def test_square_attacks_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    asked: list[int] = []
    forward = torchattacks.Square.forward
    monkeypatch.setattr(torchattacks.Square, "forward", lambda self, x, y: asked.append(len(x)) or forward(self, x, y))
    whole, again = square()(list(range(12))), square()
    first, second, third = again([0, 4, 9]), again([9, 3, 0]), again([4])
    assert asked == [12, 3, 1]
    for found, rows in ((first, [0, 4, 9]), (second, [9, 3, 0]), (third, [4])):
        assert torch.equal(found, whole[rows])
