"""AutoAttack's members have the settings of the authors' standard version, and search only once.

The settings are those of `set_version("standard")` in github.com/fra31/auto-attack.
"""

from typing import Any

import pytest
import torch
from made_batches import make_digit_batch
from torch import Tensor

from irpipe.attacks import AttackBatch, autoattack
from irpipe.attacks._torchattacks import TorchModule

# For 10 classes, under torchattacks' names of the attributes.
REFERENCE: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": 100, "n_restarts": 1, "eot_iter": 1, "thr_decr": 0.75, "loss": "ce"},
    "apgd-t": {
        "steps": 100,
        "n_restarts": 1,
        "eot_iter": 1,
        "thr_decr": 0.75,
        "n_target_classes": 9,
    },
    "fab-t": {
        "steps": 100,
        "n_restarts": 1,
        "alpha_max": 0.1,
        "eta": 1.05,
        "beta": 0.9,
        "n_target_classes": 9,
    },
    "square": {
        "n_queries": 5000,
        "n_restarts": 1,
        "p_init": 0.8,
        "rescale_schedule": False,
        "loss": "margin",
    },
}
CLASS_NAMES = {"apgd-ce": "APGD", "apgd-t": "APGDT", "fab-t": "FAB", "square": "Square"}


@pytest.mark.parametrize("name", list(REFERENCE))
def test_settings_are_those_of_the_authors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    attributes: dict[str, Any] = {}

    class Spy(getattr(torchattacks, CLASS_NAMES[name])):  # type: ignore[misc]
        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            attributes.update(vars(self))
            return images

        # The member fab-t calls this instead of forward.
        attack_single_run_targeted = forward

    monkeypatch.setattr(torchattacks, CLASS_NAMES[name], Spy)
    options: dict[str, Any] = {"eps": [0.3], "attacks_to_run": [name]}
    list(autoattack.attack(make_digit_batch(3), **options))
    assert {key: attributes[key] for key in REFERENCE[name]} == REFERENCE[name]
    assert attributes["norm"] == "Linf"
    assert attributes["multi_targeted"] if name == "fab-t" else attributes["eps"] == 0.3


def linf_distance(images: Tensor, clean: Tensor) -> Tensor:
    return (images - clean).abs().flatten(1).amax(dim=1)


def test_one_search_of_fab_wins_at_each_eps_where_a_search_at_that_eps_wins() -> None:
    import torchattacks

    batch = make_digit_batch(12)
    network, images, labels = batch.network, batch.images, batch.labels
    eps = [0.01, 0.002, 0.1]
    (output,) = autoattack.attack(batch, eps=eps, attacks_to_run=["fab-t"], steps=20)
    alone = [
        torchattacks.FAB(network, eps=bound, steps=20, multi_targeted=True)(images, labels)
        for bound in eps
    ]
    expected = torch.stack([network(attacked).argmax(dim=1) != labels for attacked in alone])
    assert torch.equal(output.extras["broken_by"] > 0, expected)
    assert 0 < expected.sum() < expected.numel()
    for bound, adversarial, attacked in zip(eps, output.images, alone, strict=True):
        distance = linf_distance(adversarial, images)
        assert distance.max() <= bound + 1e-6
        assert (distance <= linf_distance(attacked, images) + 1e-6).all()


def attack_by_square(batch: AttackBatch, left: list[int]) -> Tensor:
    """Images with the indices `left` after 40 queries of Square at eps 0.2."""
    module = TorchModule(batch, lambda steps=1, note="": None)
    square = autoattack._seeded(batch, module, "square", "linf", steps=1, n_queries=40, seed=7)
    return square(0.2, torch.tensor(left))


def test_what_square_finds_does_not_depend_on_which_images_are_left() -> None:
    all_images = attack_by_square(make_digit_batch(12), list(range(12)))
    some_images = attack_by_square(make_digit_batch(12), [11, 2, 5])
    assert torch.equal(some_images, all_images[[11, 2, 5]])
    assert len({tuple(image.flatten().tolist()) for image in all_images}) == 12


def test_square_attacks_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchattacks

    n_attacked: list[int] = []
    forward = torchattacks.Square.forward

    def spy(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        n_attacked.append(len(images))
        return forward(self, images, labels)

    monkeypatch.setattr(torchattacks.Square, "forward", spy)
    all_images = attack_by_square(make_digit_batch(12), list(range(12)))
    batch = make_digit_batch(12)
    for left in ([0, 4, 9], [9, 3, 0], [4]):
        assert torch.equal(attack_by_square(batch, left), all_images[left])
    assert n_attacked == [12, 3, 1]
