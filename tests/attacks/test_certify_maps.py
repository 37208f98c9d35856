"""Proofs about maps: by hand, against attacks, and what happens when an image contradicts one."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_batch
from random_networks import random_images, random_network
from small_referee import SHAPE, tiny_image, tiny_network
from torch import Tensor

from irpipe.analysis.certified_maps import one_class, robustness
from irpipe.attacks import AttackBatch, certify_maps, certify_top_k, margin_pgd
from irpipe.attacks.certify_top_k import leads_and_rivals
from irpipe.attacks.proposition1 import check_proposition1
from irpipe.certification import map_zonotope, relaxation
from irpipe.datasets import load
from irpipe.errors import IrpipeError
from irpipe.networks.load import load_network
from irpipe.networks.network import Network
from irpipe.networks.released import read_released
from irpipe.results.result import Result

SEARCH = {"restarts": 4, "steps": 8}


def tiny_batch(seed: int, n_images: int = 4) -> AttackBatch:
    network = tiny_network(seed)
    images = torch.stack([tiny_image(number) for number in range(n_images)])
    return make_batch(network, images, network(images).argmax(dim=1))


def cam(network: Network, images: Tensor) -> np.ndarray:
    """CAM with 1/u in plain numbers, float64, `[B, classes, u]`."""
    features = network.features(images).flatten(2).double().numpy()
    head = network.head.double().numpy()
    return np.einsum("ck,bku->bcu", head, features) / features.shape[2]


def test_the_arrays_are_those_of_proposition_1() -> None:
    batch = tiny_batch(1)
    outputs = list(certify_maps.attack(batch, eps=[0.02, 0.1], **SEARCH))
    assert [output.axis_value for output in outputs] == [0, 1, 2]
    clean_maps = cam(batch.network, batch.images)
    rows = np.arange(4)
    label = batch.labels.numpy()
    logits = clean_maps.sum(axis=2)
    for target, output in enumerate(outputs):
        extras = {name: values.numpy() for name, values in output.extras.items()}
        assert (extras["target"] == target).all()
        half_margin = (logits[rows, label] - logits[:, target]) / 2
        for e, images in enumerate(output.images):
            change = np.abs(cam(batch.network, images) - clean_maps).sum(axis=2)
            discrepancy = (change[rows, label] + change[:, target]) / 2
            np.testing.assert_allclose(extras["half_margin"][e], half_margin, atol=1e-5)
            np.testing.assert_allclose(extras["attacked_discrepancy"][e], discrepancy, atol=1e-5)
        targets = torch.full((2, 4), target)
        sides = check_proposition1(batch, output.images, targets)
        np.testing.assert_allclose(sides["discrepancy"], extras["attacked_discrepancy"], atol=1e-4)
        assert (extras["attacked_discrepancy"] <= extras["certified_discrepancy"]).all()
        assert (extras["certified_discrepancy"] < 1.5 * extras["attacked_discrepancy"])[0].all()
        own = label == target
        assert (extras["margin_lower_bound"][:, own] == 0).all()
        assert (extras["margin_lower_bound"] <= 2 * extras["half_margin"] + 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_no_attack_breaks_an_image_that_is_certified(seed: int) -> None:
    batch = tiny_batch(seed)
    eps = [0.01, 0.05, 0.2]
    arrays = evaluate_attack(batch, certify_maps, eps, **SEARCH)
    attacked = evaluate_attack(batch, margin_pgd, eps, steps=[20], restarts=2)
    robust = robustness(Result({}, arrays | {"label": batch.labels.numpy()}))
    assert robust.by_proposition1.any()
    assert not robust.by_margin.all()
    # Proposition 1 adds a triangle inequality to what bounds the margin.
    assert not (robust.by_proposition1 & ~robust.by_margin).any()
    assert not (robust.by_proposition1 & ~robust.proposition1_limit).any()
    for correct in (arrays["correct"], attacked["correct"]):
        assert correct[robust.by_margin].all()
    proven_margin = 2 * (arrays["half_margin"] - arrays["certified_discrepancy"])
    is_target = np.arange(3) != batch.labels.numpy()[:, None]
    slack = (arrays["margin_lower_bound"] - proven_margin).transpose(0, 2, 1)[is_target]
    assert (slack > -1e-6).all()


@pytest.mark.parametrize("kind", [certify_maps, certify_top_k])
def test_an_image_that_contradicts_a_proof_is_reported(
    kind: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = relaxation.clipped_ball
    monkeypatch.setattr(map_zonotope, "clipped_ball", lambda images, eps: full(images, eps / 3))
    options = {"top_k": 2} if kind is certify_top_k else {}
    match = "proven" if kind is certify_top_k else "class 0: found discrepancy .* is proven"
    with pytest.raises(RuntimeError, match=match):
        for seed in range(4):
            evaluate_attack(tiny_batch(seed), kind, [0.05, 0.1], **SEARCH, **options)


@pytest.mark.parametrize("seed", [1, 2])
def test_sampled_images_keep_the_entries_that_provably_stay(seed: int) -> None:
    batch = tiny_batch(seed)
    eps = 0.03
    arrays = evaluate_attack(batch, certify_top_k, [eps], **SEARCH, top_k=2)
    stays = arrays["provably_stays"][:, 0]
    assert stays.any()
    assert not stays.all()
    assert not (stays & ~arrays["attacked_stays"][:, 0]).any()
    generator = torch.Generator().manual_seed(1)
    for number, image in enumerate(batch.images):
        label = int(batch.labels[number])
        clean = cam(batch.network, image[None])[0, label]
        entries = arrays["entry"][number, 0]
        assert entries.tolist() == np.argsort(-clean)[:2].tolist()
        signs = (torch.rand(300, *SHAPE, generator=generator) - 0.5).sign()
        maps = cam(batch.network, (image + eps * signs).clamp(0, 1))[:, label]
        largest = np.argsort(-maps, axis=1)[:, :2]
        for entry in entries[stays[number]]:
            assert (largest == entry).any(axis=1).all()


def test_leads_and_rivals_by_hand() -> None:
    # The other entries of 9 are 7, 5, 1: the second one is 5. Those of 1 are 9, 7, 5: it is 7.
    maps = torch.tensor([[[5.0, 9.0, 1.0, 7.0]], [[5.0, 9.0, 1.0, 7.0]]])
    leads, rivals = leads_and_rivals(maps, torch.tensor([1, 2]))
    assert leads.tolist() == [[4.0], [-6.0]]
    assert rivals.tolist() == [[0], [3]]


@pytest.mark.parametrize("kind", [certify_maps, certify_top_k])
def test_the_outcome_does_not_depend_on_the_batch(kind: ModuleType) -> None:
    batch = tiny_batch(2)
    options = SEARCH | ({"top_k": 3} if kind is certify_top_k else {})
    together = evaluate_attack(batch, kind, [0.05], **options)
    single = make_batch(batch.network, batch.images[2:3], batch.labels[2:3])
    single = AttackBatch(**{**vars(single), "indices": np.array([2])})
    alone = evaluate_attack(single, kind, [0.05], **options)
    for name, array in alone.items():
        if name != kind.AXIS:
            np.testing.assert_allclose(array[0], together[name][2], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", [certify_maps, certify_top_k])
def test_other_networks_are_refused_in_one_line(kind: ModuleType) -> None:
    network = random_network("pool", (1, 28, 28)).requires_grad_(False)
    batch = make_batch(network, random_images((1, 28, 28), 1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(IrpipeError, match=r"^certify: .* is not Small .*; only Small .*$"):
        evaluate_attack(batch, kind, [0.1])
    broken = tiny_batch(1)
    broken.network.head[0, 0] = torch.nan
    with pytest.raises(IrpipeError, match="logits that are not finite; train it again"):
        evaluate_attack(broken, kind, [0.1])


def test_a_map_has_more_than_k_entries() -> None:
    match = r"^attack option top_k: 4, but the maps have 4 entries; choose at most 3$"
    with pytest.raises(IrpipeError, match=match):
        evaluate_attack(tiny_batch(1), certify_top_k, [0.1], top_k=4)


def test_the_bounds_of_mnist_small_int_are_close_to_the_attack(shared: Path) -> None:
    """docs/certify.md: the ratio is 1.36 over 50 images; the bar is 1.45."""
    path = shared / "released" / "networks" / "mnist_smallgap_int_100.pkl"
    network = load_network(read_released(path, "mnist", {"kind": "mnist"}, "small", "int"), path)
    test = load({"kind": "mnist"}, shared / "datasets", "test")
    indices = np.random.RandomState(99).permutation(len(test))[:3]
    batch = make_batch(network, test.images[indices], test.labels[indices])
    arrays = evaluate_attack(batch, certify_maps, [0.05], restarts=4, steps=20)
    result = Result({}, arrays | {"label": batch.labels.numpy(), "eps": np.array([0.05])})
    certified, attacked = one_class(result)
    assert (certified >= attacked).all()
    assert certified.mean() < 1.45 * attacked.mean()
