"""AutoAttack in all norms: the same images fall as by other implementations from the same starts.

torchattacks has the members in l-inf and l2. Its targeted APGD draws starts only for the images
that are left, and in l2 steps as far for all images as for the first one. So it gets one image at
a time here.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from made_batches import make_digit_batch
from pyautoattack import AutoAttack
from torch import Tensor

from irpipe.attacks import AttackBatch, autoattack
from irpipe.attacks._pyautoattack import PYAUTOATTACK_NORMS, TorchModule
from irpipe.errors import IrpipeError

N_IMAGES = 6
STEPS = 12
N_QUERIES = 60
# At which eps some images fall and others do not.
EPS = {
    "linf": {"apgd-ce": 0.03, "apgd-t": 0.02, "fab-t": 0.02, "square": 0.3},
    "l2": {"apgd-ce": 0.7, "apgd-t": 0.5, "fab-t": 0.5, "square": 6.0},
    "l1": {"apgd-ce": 7.0, "apgd-t": 4.0, "fab-t": 5.0, "square": 60.0},
}


def seeds() -> dict[str, int]:
    """The seed of each member at the first eps, of a batch whose generator has the seed 11."""
    drawn = np.random.RandomState(11).randint(2**31, size=(1, len(autoattack.MEMBERS)))
    return dict(zip(autoattack.MEMBERS, drawn[0].tolist(), strict=True))


def ours(batch: AttackBatch, norm: Any, names: list[str], eps: float) -> Tensor:
    """Images after the members `names`, the clean ones where none won."""
    options: dict[str, Any] = {"attacks_to_run": names, "steps": STEPS, "n_queries": N_QUERIES}
    fresh = dataclasses.replace(batch, rng=np.random.RandomState(11))
    (output,) = autoattack.attack(fresh, eps=[eps], norm=norm, **options)
    return output.images[0]


def module(batch: AttackBatch) -> TorchModule:
    """The function that the members attack, to the last bit."""
    return TorchModule(batch, lambda steps=1, note="": None)


def single_images(batch: AttackBatch) -> Iterator[AttackBatch]:
    """A batch of each image alone."""
    for index in range(len(batch.images)):
        at = slice(index, index + 1)
        images, labels, indices = batch.images[at], batch.labels[at], batch.indices[at]
        yield dataclasses.replace(batch, images=images, labels=labels, indices=indices)


@pytest.mark.parametrize("name", list(EPS["l2"]))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_member_finds_what_that_of_torchattacks_finds(norm: str, name: str) -> None:
    eps = EPS[norm][name]
    options = {"norm": PYAUTOATTACK_NORMS[norm], "eps": eps, "seed": seeds()[name]}
    apgd = {"steps": STEPS, **options}
    member: Any = {
        "apgd-ce": partial(torchattacks.APGD, **apgd),
        "apgd-t": partial(torchattacks.APGDT, **apgd),
        "fab-t": partial(torchattacks.FAB, multi_targeted=True, **apgd),
        "square": partial(torchattacks.Square, n_queries=N_QUERIES, resc_schedule=False, **options),
    }[name]
    all_images = make_digit_batch(N_IMAGES)
    falls = []
    for batch in single_images(all_images) if name == "apgd-t" else [all_images]:
        network = module(batch)
        attacked = member(network)(batch.images, batch.labels)
        is_wrong = network(attacked).argmax(dim=1) != batch.labels
        falls += is_wrong.tolist()
        found = ours(batch, norm, [name], eps)
        assert torch.equal(found[~is_wrong], batch.images[~is_wrong])
        assert (network(found).argmax(dim=1) != batch.labels)[is_wrong].all()
        if name != "fab-t":  # FAB keeps the nearest image of all classes.
            assert torch.allclose(found[is_wrong], attacked[is_wrong], rtol=0, atol=1e-6)
    assert 0 < sum(falls) < N_IMAGES


@pytest.mark.parametrize(
    ("norm", "names", "eps"),
    [
        *(("l1", [name], eps) for name, eps in EPS["l1"].items()),
        ("l1", list(autoattack.MEMBERS), 4.0),
        ("l2", list(autoattack.MEMBERS), 0.4),
    ],
)
def test_the_authors_package_finds_the_same_images(norm: str, names: list[str], eps: float) -> None:
    """Their own loop over the members runs here, with our seeds.

    They draw starts only for the images that are left. So they get one image at a time.
    """
    falls = []
    for batch in single_images(make_digit_batch(N_IMAGES)):
        authors = AutoAttack(module(batch), norm=PYAUTOATTACK_NORMS[norm], eps=eps)
        for apgd in (authors.apgd, authors.apgd_targeted):
            apgd.n_iter = apgd.n_iter_orig = STEPS
            apgd.n_iter_2, apgd.n_iter_min, apgd.size_decr = 2, 1, 1  # 0.22, 0.06, 0.03 of them
        authors.fab.n_iter = STEPS
        authors.square.n_queries = N_QUERIES
        authors.attacks_to_run = names
        authors.get_seed = iter([seeds()[name] for name in names]).__next__
        expected, _ = authors.run_standard_evaluation(batch.images, batch.labels)
        found = ours(batch, norm, names, eps)
        falls.append((batch.network(expected).argmax(dim=1) != batch.labels).item())
        assert (batch.network(found).argmax(dim=1) != batch.labels).item() == falls[-1]
    assert 0 < sum(falls) < N_IMAGES


def test_apgd_in_l1_needs_two_steps() -> None:
    batch = make_digit_batch(2)
    options: dict[str, Any] = {"norm": "l1", "attacks_to_run": ["apgd-ce"], "steps": 1}
    with pytest.raises(IrpipeError, match="steps: APGD in l1 needs at least 2; found 1"):
        list(autoattack.attack(batch, eps=[1.0], **options))
