"""The attack against interpretability by hand, against a plain loop and on released networks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_batch, make_network
from map_networks import EPS, FIRST_MAP, FLAT_MAP, attacked_channels, channel_batch
from scipy.stats import kendalltau
from torch import Tensor

from irpipe import config
from irpipe.attacks import AttackBatch, aai
from irpipe.errors import IrpipeError
from irpipe.evaluation import evaluate_checkpoint
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.network import Network
from irpipe.networks.released import read_released
from irpipe.published import published_table
from irpipe.results.rank_correlation import rank_correlation
from irpipe.runtime.device import select_device

SHAPE = (1, 16, 16)

# --- by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_only_the_largest_entries_of_the_clean_map_fall(top_k: int) -> None:
    # eps stops each of them after three steps of 0.04.
    lowered = {0.9: 0.8, 0.8: 0.7, 0.5: 0.4}
    largest = sorted(FIRST_MAP)[-top_k:]
    expected = [lowered[entry] if entry in largest else entry for entry in FIRST_MAP]
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    ((first, flat),) = attacked_channels(batch, top_k=top_k, steps=5)
    assert first == pytest.approx(expected)
    assert flat == pytest.approx(FLAT_MAP)


def test_the_size_of_the_maps_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(aai, "require_applicable", lambda batch, **_: asked.append(batch.offset))
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    for offset in (0, 1):
        list(aai.attack(dataclasses.replace(batch, offset=offset), eps=[0.1], steps=1, top_k=1))
    assert asked == [0]


def test_the_hinge_keeps_the_prediction() -> None:
    """Without it the means after two steps are 0.58 and 0.56, less than 0.57 of the other class.

    Then the hinge, with 8/4 per entry against 1, raises all entries of the first map once and
    lowers those of the other. Now the margin is wide enough, and the two largest entries fall until
    eps stops them at 0.8 and 0.7.
    """
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    ((first, _),) = attacked_channels(batch, top_k=2, steps=2, hinge_weight=8)
    assert first == pytest.approx([0.82, 0.72, 0.2, 0.5])
    ((first, flat),) = attacked_channels(batch, top_k=2, steps=3, hinge_weight=8)
    assert first == pytest.approx([0.86, 0.76, 0.24, 0.54])
    assert flat == pytest.approx([0.53] * 4)
    ((first, flat),) = attacked_channels(batch, top_k=2, steps=5, hinge_weight=8)
    assert first == pytest.approx([0.8, 0.7, 0.24, 0.54])
    assert sum(first) > sum(flat)
    ((first, flat),) = attacked_channels(batch, top_k=2, steps=5)
    assert first == pytest.approx([0.8, 0.7, 0.2, 0.5])
    assert sum(first) < sum(flat)


def test_the_hinge_protects_the_prediction_up_to_kappa() -> None:
    """The true class has the flat map, the predicted one wins by 0.03.

    With kappa 0.04 the hinge wants more than that, with kappa 0.02 it does not.
    """
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[1])
    ((first, flat),) = attacked_channels(batch, top_k=4, steps=1, hinge_weight=8, kappa=0.04)
    assert first == pytest.approx([0.94, 0.84, 0.24, 0.54])
    assert flat == pytest.approx([0.53] * 4)
    ((first, _),) = attacked_channels(batch, top_k=4, steps=1, hinge_weight=8, kappa=0.02)
    assert first == pytest.approx(FIRST_MAP)


def test_metrics_by_hand() -> None:
    """If one pair of six changes its order, tau is 4/6; if two do, tau is 2/6.

    A prediction is unchanged if it is that of the clean image, even if that is not correct.
    """
    clean = [(FIRST_MAP, FLAT_MAP), (FIRST_MAP, FLAT_MAP), (FLAT_MAP, FIRST_MAP)]
    batch = channel_batch(*clean, (FIRST_MAP, FLAT_MAP), labels=[0, 0, 0, 1])
    one_pair = [0.8, 0.9, 0.2, 0.5]
    adversarial = torch.tensor(
        [
            (one_pair, FLAT_MAP),
            ([0.8, 0.5, 0.2, 0.6], FLAT_MAP),
            (FLAT_MAP, one_pair),
            (FIRST_MAP, FLAT_MAP),
        ]
    )
    adversarial[1, 0] -= 0.2  # turns the prediction
    images = torch.stack([batch.images, adversarial.view_as(batch.images)])
    arrays = aai.metrics(batch, images)
    assert arrays["kendall_tau"][0].tolist() == pytest.approx([1, 1, 0, 0])
    assert arrays["kendall_tau"][1].tolist() == pytest.approx([4 / 6, 4 / 6, 0, 0])
    assert arrays["tau_defined"].tolist() == [[True, True, False, False]] * 2
    expected = [[True] * 4, [True, False, True, True]]
    assert arrays["prediction_unchanged"].tolist() == expected


def test_top_k_larger_than_the_map_is_refused() -> None:
    batch = channel_batch((FIRST_MAP, FLAT_MAP), labels=[0])
    message = r"\Aattack option top_k: 5, but the maps have 4 entries\Z"
    with pytest.raises(IrpipeError, match=message):
        attacked_channels(batch, top_k=5, steps=1)


# --- against a plain loop ------------------------------------------------------------------------


@pytest.fixture
def batch() -> AttackBatch:
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(4))
    return make_batch(make_network(99, SHAPE, 10), images, torch.tensor([3, 0, 9, 3, 5]))


def plain_map(network: Network, image: Tensor, label: int, interpreter: str) -> Tensor:
    """CAM or GradCAM++ of one class, flat."""
    weights = network.head[label]
    if interpreter == "gradcampp":
        weights = weights.clamp(min=0)
    return torch.einsum("k,khw->hw", weights, network.features(image[None])[0]).flatten()


def plain_aai(batch: AttackBatch, eps: float, steps: int, interpreter: str) -> Tensor:
    """The recipe of C.6-2 for one eps, image by image."""
    rng = np.random.RandomState(11)
    rng.randint(9, size=5)
    noise = rng.uniform(-eps, eps, (5, 16, 16, 1)).transpose(0, 3, 1, 2)
    adversarial = []
    for image, label, image_noise in zip(batch.images, batch.labels.tolist(), noise, strict=True):
        clean_map = plain_map(batch.network, image, label, interpreter).numpy()
        largest = clean_map.argsort()[-8:].copy()
        clean = image.numpy()
        point = np.clip(clean + image_noise, 0, 1)
        for _ in range(steps):
            variable = torch.from_numpy(point).float().requires_grad_()
            plain_map(batch.network, variable, label, interpreter)[largest].sum().backward()
            assert variable.grad is not None
            point = point - 0.01 * np.sign(variable.grad.numpy())
            point = np.clip(np.clip(point, clean - eps, clean + eps), 0, 1)
        adversarial.append(torch.from_numpy(point))
    return torch.stack(adversarial)


@pytest.mark.parametrize("interpreter", ["cam", "gradcampp"])
def test_attack_equals_a_plain_loop(batch: AttackBatch, interpreter: Any) -> None:
    (output,) = aai.attack(batch, eps=[0.05, 0.3], steps=12, interpreter=interpreter, images=5)
    assert (output.axis_value, output.images.dtype) == (12, torch.float32)
    for eps, images in zip([0.05, 0.3], output.images, strict=True):
        difference = (images - plain_aai(batch, eps, 12, interpreter)).abs()
        # Rounding may change the sign of a gradient that is nearly zero.
        assert (difference < 1e-6).double().mean() > 0.999


@pytest.mark.parametrize("interpreter", ["cam", "gradcampp"])
def test_tau_is_that_of_scipy_and_1_at_eps_0(batch: AttackBatch, interpreter: str) -> None:
    options: dict[str, Any] = {"steps": 7, "interpreter": interpreter, "images": 5}
    arrays = evaluate_attack(batch, aai, [0, 0.1], **options)
    adversarial = plain_aai(batch, 0.1, 7, interpreter)
    for i, label in enumerate(batch.labels.tolist()):
        maps = [
            plain_map(batch.network, images[i].float(), label, interpreter).numpy()
            for images in (batch.images, adversarial)
        ]
        expected = [1, kendalltau(*maps).statistic]
        assert arrays["kendall_tau"][i, :, 0].tolist() == pytest.approx(expected, abs=0.02)
    assert arrays["kendall_tau"][:, 1].max() < 0.95
    assert arrays["prediction_unchanged"][:, 0].all()


def test_rule_of_integrated_gradients_reaches_attack_and_metrics(
    batch: AttackBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[str] = []

    def record(*arguments: Any, **options: Any) -> Tensor:
        rules.append(options["ig_rule"])
        return interpret(*arguments, **options)

    monkeypatch.setattr(aai, "interpret", record)
    evaluate_attack(batch, aai, [0.1], steps=1, interpreter="ig", ig_rule="sum", images=5)
    assert set(rules) == {"sum"}
    (output,) = aai.attack(batch, eps=[0.1], steps=1, interpreter="ig", images=5)
    assert rules[-1] == "quadrature"
    rules.clear()
    aai.metrics(batch, output.images, interpreter="ig")
    assert set(rules) == {"quadrature"}


def test_the_start_does_not_depend_on_the_batch_size(batch: AttackBatch) -> None:
    options: dict[str, Any] = {"eps": [0.1], "steps": 1, "images": 5}
    (output,) = aai.attack(batch, **options)
    rng = np.random.RandomState(11)
    parts = []
    for offset, part in ((0, slice(3)), (3, slice(3, 5))):
        images, labels = batch.images[part], batch.labels[part]
        smaller = dataclasses.replace(batch, images=images, labels=labels, rng=rng, offset=offset)
        parts += [part_output.images[0] for part_output in aai.attack(smaller, **options)]
    torch.testing.assert_close(torch.cat(parts), output.images[0], rtol=0, atol=1e-6)


# --- on released networks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "n_unchanged"), [("int", [200, 197, 190, 183]), ("normal", [176, 96, 7, 1])]
)
def test_table_2(method: str, n_unchanged: list[int], shared: Path, tmp_path: Path) -> None:
    """Cells over 30 images or more are within 0.010 of the published ones.

    The numbers of images whose prediction is unchanged are those of the plain loop.
    """
    file = shared / "released" / "networks" / f"mnist_smallgap_{method}_100.pkl"
    checkpoint = read_released(file, "mnist", {"kind": "mnist"}, "small", method)
    path = tmp_path / "network"
    write_checkpoint(path, checkpoint)
    options = config.resolve_named("attacks", {"kind": "aai", "eps": EPS}, "test")
    device = select_device("cpu")
    result = evaluate_checkpoint(path, "aai", options, shared / "datasets", device, "test")
    measured = [rank_correlation(result, eps, 200) for eps in EPS]
    assert [tau.n for tau in measured if tau] == pytest.approx(n_unchanged, abs=2)
    published = {
        key.eps: value.value
        for key, value in published_table("2").items()
        if key[:3] == ("mnist", "small", method)
    }
    for eps, tau in zip(EPS, measured, strict=True):
        if tau and tau.n >= 30:
            assert tau.value == pytest.approx(published[eps], abs=0.010)
