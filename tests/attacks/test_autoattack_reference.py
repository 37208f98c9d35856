"""AutoAttack's members have the settings of the authors' standard version, and search only once."""

from typing import Any

import pytest
import torch
from made_batches import make_digit_batch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from irpipe.attacks import AttackBatch, autoattack
from irpipe.attacks._pyautoattack import PYAUTOATTACK_NORMS, TorchModule
from irpipe.option_types import EpsNorm

# Of each member: its class, its name in the authors' ensemble, and the settings that decide it.
APGD_SETTINGS = "n_iter_orig n_iter_2 n_iter_min size_decr n_restarts eps norm eot_iter thr_decr"
APGD_SETTINGS += " loss use_largereps"
MEMBERS: dict[str, tuple[type, str, str]] = {
    "apgd-ce": (APGDAttack, "apgd", APGD_SETTINGS),
    "apgd-t": (APGDAttack_targeted, "apgd_targeted", f"{APGD_SETTINGS} n_target_classes"),
    "fab-t": (FABAttack_PT, "fab", "n_iter norm alpha_max eta beta"),
    "square": (
        SquareAttack,
        "square",
        "n_queries n_restarts p_init rescale_schedule loss norm eps",
    ),
}


@pytest.mark.parametrize("norm", list(PYAUTOATTACK_NORMS))
@pytest.mark.parametrize("name", list(MEMBERS))
def test_settings_are_those_of_the_authors(
    name: str, norm: EpsNorm, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, authors_name, settings = MEMBERS[name]
    attributes: dict[str, Any] = {}

    def spy(self: Any, images: Tensor, *arguments: Any, **options: Any) -> Tensor:
        attributes.update(vars(self))
        return images

    method = "attack_single_run" if name == "fab-t" else "perturb"
    monkeypatch.setattr(member, method, spy)
    batch = make_digit_batch(3)
    list(autoattack.attack(batch, eps=[0.3], norm=norm, attacks_to_run=[name]))  # type: ignore
    authors = AutoAttack(batch.network, norm=PYAUTOATTACK_NORMS[norm], eps=0.3)
    expected = vars(getattr(authors, authors_name))
    assert {key: attributes[key] for key in settings.split()} == {
        key: expected[key] for key in settings.split()
    }


def linf_distance(images: Tensor, clean: Tensor) -> Tensor:
    return (images - clean).abs().flatten(1).amax(dim=1)


def test_one_search_of_fab_wins_at_each_eps_where_a_search_at_that_eps_wins() -> None:
    batch = make_digit_batch(6)
    network, images, labels = batch.network, batch.images, batch.labels
    eps = [0.01, 0.002, 0.1]
    (output,) = autoattack.attack(batch, eps=eps, attacks_to_run=["fab-t"], steps=10)
    alone = [
        FABAttack_PT(network, eps=bound, n_iter=10, targeted=True).perturb(images, labels)
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
    n_attacked: list[int] = []
    perturb = SquareAttack.perturb

    def spy(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        n_attacked.append(len(images))
        return perturb(self, images, labels)

    monkeypatch.setattr(SquareAttack, "perturb", spy)
    all_images = attack_by_square(make_digit_batch(12), list(range(12)))
    batch = make_digit_batch(12)
    for left in ([0, 4, 9], [9, 3, 0], [4]):
        assert torch.equal(attack_by_square(batch, left), all_images[left])
    assert n_attacked == [12, 3, 1]
