"""AutoAttack's members have the settings of the authors' standard version, and search only once."""

from typing import Any

import numpy as np
import pytest
import torch
from made_batches import make_digit_batch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from irpipe.attacks import AttackBatch, _autoattack_members, autoattack
from irpipe.attacks._autoattack_members import apgd_ce, apgd_t, square_once
from irpipe.attacks._autoattack_search import Search
from irpipe.attacks._pyautoattack import PYAUTOATTACK_NORMS, TorchModule
from irpipe.attacks._square import _side

NORMS = list(PYAUTOATTACK_NORMS)
# Of each member: its class, its name in the authors' ensemble, and the settings that decide it.
APGD_SETTINGS = "n_iter_orig n_iter_2 n_iter_min size_decr norm eot_iter thr_decr loss"
MEMBERS: dict[str, tuple[type, str, str]] = {
    "apgd-ce": (APGDAttack, "apgd", APGD_SETTINGS),
    "apgd-t": (APGDAttack_targeted, "apgd_targeted", APGD_SETTINGS),
    "fab-t": (FABAttack_PT, "fab", "n_iter norm alpha_max eta beta"),
    "square": (
        SquareAttack,
        "square",
        "n_queries n_restarts p_init rescale_schedule loss norm eps",
    ),
}


def runs_of(apgd: APGDAttack) -> list[tuple[float, int]]:
    """Eps and steps of the runs of the authors' APGD on an image that it does not break."""
    n_runs = getattr(apgd, "n_target_classes", 1) * apgd.n_restarts
    stages = [(apgd.eps, apgd.n_iter_orig)]
    if apgd.use_largereps:
        assert apgd.n_iter_orig == 100  # of which 30%, 30% and the rest are at these eps
        stages = [(3 * apgd.eps, 30), (2 * apgd.eps, 30), (apgd.eps, 40)]
    return stages * n_runs


@pytest.mark.parametrize(
    ("name", "norm"),
    [(name, norm) for name in MEMBERS for norm in NORMS if (name, norm) != ("square", "linf")],
)
def test_settings_are_those_of_the_authors(
    name: str, norm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, authors_name, settings = MEMBERS[name]
    attributes: dict[str, Any] = {}
    runs: list[tuple[float, int]] = []  # of all images; several runs may be one call

    def spy(self: Any, images: Tensor, *arguments: Any, **options: Any) -> Any:
        attributes.update(vars(self))
        if not isinstance(self, APGDAttack):
            return images
        eps = torch.as_tensor(self.eps).flatten()[0].item()
        runs.extend([(eps, self.n_iter)] * len(images))
        return images, torch.ones(len(images), dtype=torch.bool), None, images

    monkeypatch.setattr(member, "perturb" if name == "square" else "attack_single_run", spy)
    only: Any = [name]
    batch = make_digit_batch(3)
    list(autoattack.attack(batch, eps=[0.3], norm=norm, attacks_to_run=only))
    authors = AutoAttack(batch.network, norm=PYAUTOATTACK_NORMS[norm], eps=0.3)
    expected = getattr(authors, authors_name)
    assert {key: attributes[key] for key in settings.split()} == {
        key: vars(expected)[key] for key in settings.split()
    }
    if isinstance(expected, APGDAttack):
        assert np.allclose(sorted(runs), sorted(3 * runs_of(expected)), rtol=1e-6)


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


def search(batch: AttackBatch, member: Any, norm: Any, left: list[int], eps: list[float]) -> Tensor:
    """Images at the positions `left` after 4 steps, or 40 queries, of a member."""
    module = TorchModule(batch, lambda steps=1, note="": None)
    how = Search(batch, module, norm, eps, seeds=[7, 8], steps=4, n_queries=40)
    found: Tensor = member(how, how.rows(torch.tensor(left)))
    return found


@pytest.mark.parametrize(
    ("member", "norm", "eps"),
    [
        (square_once, "linf", [0.2, 0.3]),
        (apgd_t, "linf", [0.02, 0.03]),
        (apgd_ce, "l2", [1.2, 1.4]),
        (apgd_t, "l1", [12.0, 15.0]),
    ],
)
def test_what_is_found_does_not_depend_on_which_images_are_left(
    member: Any, norm: str, eps: list[float]
) -> None:
    """Position 12 + n is image n at the second eps."""
    batch = make_digit_batch(12)
    all_images = search(batch, member, norm, list(range(24)), eps)
    some = [17, 11, 2, 5]
    found = search(make_digit_batch(12), member, norm, some, eps)
    assert torch.allclose(found, all_images[some], rtol=0, atol=1e-6)
    n_found = len({tuple(image.flatten().tolist()) for image in [*batch.images, *all_images]}) - 12
    assert n_found > 12


def test_square_attacks_each_image_once(monkeypatch: pytest.MonkeyPatch) -> None:
    n_attacked: list[int] = []
    square = _autoattack_members.square

    def spy(module: Any, images: Tensor, *columns: Tensor, **options: Any) -> Tensor:
        n_attacked.append(len(images))
        return square(module, images, *columns, **options)

    eps = [0.2, 0.3]
    all_images = search(make_digit_batch(12), square_once, "linf", list(range(24)), eps)
    monkeypatch.setattr(_autoattack_members, "square", spy)
    batch = make_digit_batch(12)
    for left in ([0, 4, 21], [21, 3, 0], [4]):
        assert torch.equal(search(batch, square_once, "linf", left, eps), all_images[left])
    assert n_attacked == [3, 1]


def test_windows_of_square_shrink_as_the_authors_do() -> None:
    authors = SquareAttack(None, p_init=0.8, resc_schedule=False)
    for query in range(10_000):
        expected = max(round((authors.p_selection(query) * 3 * 32 * 32 / 3) ** 0.5), 1)
        assert _side(query, (3, 32, 32)) == expected
