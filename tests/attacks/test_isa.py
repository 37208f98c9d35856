"""ISA against a loop that follows C.5 one image at a time, and on the released network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_isa import PlainIsa, maps_function

from irpipe import config
from irpipe.analysis import nds
from irpipe.attacks import AttackBatch, AttackOutput, _isa_search, isa
from irpipe.evaluation import _attack_batch, evaluate_checkpoint
from irpipe.interpretability.discrepancy import DiscrepancyMeasure
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.architectures import build
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.networks.released import read_released
from irpipe.published import Table1Key, published_table1
from irpipe.runtime import memory
from irpipe.runtime.device import select_device
from irpipe.training.weight_init import draw_weights

SHAPE = (1, 16, 16)
QUICK: dict[str, Any] = {
    "eps_multipliers": [1, 1.4],
    "steps": 5,
    "binary_search_steps": 6,
    "grad_scale": 500,
    "kappa": 0.01,
}


@pytest.fixture(scope="module")
def network() -> Network:
    network = build("small", SHAPE, 10)
    draw_weights(network, np.random.RandomState(99))
    with torch.no_grad():
        network.head *= 60  # a step then changes the margin by more than kappa
    # One memory layout for one image and for many. The l1 discrepancy has kinks at which
    # rounding alone decides the gradient's sign.
    network = network.requires_grad_(False).eval()
    return network.to(memory_format=torch.contiguous_format)


def make_batch(
    network: Network, rows: slice = slice(None), rng: np.random.RandomState | None = None
) -> AttackBatch:
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    return AttackBatch(
        network,
        FoldedNetwork(network, SHAPE),
        images[rows],
        labels[rows],
        np.arange(5)[rows],
        rng or np.random.RandomState(11),
    )


@pytest.mark.parametrize(
    ("interpreter", "norm", "class_set"),
    [
        ("cam", "l1", "two"),
        ("cam", "l2", "one"),
        ("cam", "l1", "all"),
        ("gradcampp", "l2", "two"),
        ("repr", "l1", "two"),
    ],
)
def test_attack_equals_a_plain_loop(
    network: Network, interpreter: Any, norm: str, class_set: str
) -> None:
    batch = make_batch(network)
    draws = np.random.RandomState(11).randint(9, size=5)
    targets = (batch.labels.numpy() + 1 + draws) % 10
    (output,) = isa.attack(
        batch, interpreter=interpreter, norms=[norm], class_sets=[class_set], **QUICK
    )
    extras, max_distance = output.extras, output.max_distance
    assert max_distance is not None
    assert output.images.shape == (3, 5, *SHAPE)
    assert extras["target"].tolist() == [targets.tolist()] * 3
    for row in range(5):
        true, target = int(batch.labels[row]), int(targets[row])
        classes = {"one": [true], "two": [true, target], "all": list(range(10))}[class_set]
        n_classes = 1 if interpreter == "repr" else len(classes)
        maps = maps_function(network, interpreter, classes)
        image = batch.images[row : row + 1].double()
        plain = PlainIsa(
            network,
            image,
            target,
            maps,
            n_classes,
            norm,
            steps=QUICK["steps"],
            search_steps=QUICK["binary_search_steps"],
            kappa=QUICK["kappa"],
            grad_scale=QUICK["grad_scale"],
        )
        eps_min = plain.find_eps_min()
        for point, multiplier in enumerate(QUICK["eps_multipliers"], 1):
            eps = multiplier * eps_min
            gamma = plain.find_gamma(eps)
            assert extras["eps_min"][point, row].item() == eps_min
            assert max_distance[[0, point], row].tolist() == pytest.approx([eps_min, eps])
            assert extras["gamma"][[0, point], row].tolist() == pytest.approx([0, gamma])
            for index, expected in ((0, plain.run(eps_min, 0)), (point, plain.run(eps, gamma))):
                torch.testing.assert_close(
                    output.images[index, row], expected[0], rtol=0, atol=1e-5
                )
                assert extras["discrepancy"][index, row].item() == pytest.approx(
                    plain.discrepancy(expected.float()).item(), rel=1e-3
                )
    # The search for gamma found different values.
    assert 0 < extras["gamma"][1:].min() < extras["gamma"].max()


# --- what the images depend on -------------------------------------------------------------------


def run_attack(batch: AttackBatch, **options: Any) -> list[AttackOutput]:
    defaults = QUICK | {"norms": ["l1"], "class_sets": ["one", "two"]}
    return list(isa.attack(batch, **(defaults | options)))


def assert_equal(outputs: list[AttackOutput], expected: list[AttackOutput]) -> None:
    assert [output.axis_value for output in outputs] == [0, 1]
    assert [output.axis_value for output in expected] == [0, 1]
    for output, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output.images, other.images, rtol=0, atol=1e-5)
        for name, values in other.extras.items():
            torch.testing.assert_close(output.extras[name], values, rtol=1e-3, atol=1e-5)


def joined(first: AttackOutput, second: AttackOutput) -> AttackOutput:
    extras = {
        name: torch.cat([values, second.extras[name]], 1) for name, values in first.extras.items()
    }
    images = torch.cat([first.images, second.images], 1)
    return AttackOutput(first.axis_value, images, None, extras)


def test_images_do_not_depend_on_their_batch(network: Network) -> None:
    complete = run_attack(make_batch(network))
    rng = np.random.RandomState(11)
    first = run_attack(make_batch(network, slice(3), rng))
    second = run_attack(make_batch(network, slice(3, 5), rng))
    assert_equal([joined(*pair) for pair in zip(first, second, strict=True)], complete)


def test_images_do_not_depend_on_the_memory(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_attack(make_batch(network))
    monkeypatch.setattr(memory, "CPU_BYTES", 1)
    assert_equal(run_attack(make_batch(network)), expected)


def test_short_searches_are_capped_and_converged_ones_go_further(network: Network) -> None:
    short = run_attack(make_batch(network), binary_search_steps=1)
    converged = run_attack(make_batch(network), binary_search_steps=6, search_rtol=0.05)
    truncated = run_attack(make_batch(network), binary_search_steps=6)
    for output in short:
        is_capped = output.extras["gamma_capped"][1:]
        assert output.extras["gamma"][1:][is_capped].tolist() == pytest.approx(
            [_isa_search.INITIAL_GAMMA] * int(is_capped.sum())
        )
        assert is_capped.any()
    assert not any(output.extras["gamma_capped"].any() for output in converged)
    for far, near in zip(converged, truncated, strict=True):
        assert not far.extras["gamma_capped"][0].any()
        is_capped = near.extras["gamma_capped"]
        assert (far.extras["gamma"][is_capped] > 2 * near.extras["gamma"][is_capped]).all()


# --- results -------------------------------------------------------------------------------------


def test_extras_come_from_the_unfolded_network(network: Network) -> None:
    batch = make_batch(network)
    entry = {"kind": "isa", "images": 5, **QUICK, "class_sets": ["two"]}
    options = config.resolve_named("attacks", entry, "test")
    arrays = _attack_batch(batch, isa, options)
    assert arrays["measure"].tolist() == [0, 1]
    assert arrays["is_valid"].shape == (5, 3, 2)
    bounds = arrays["eps_min"] * np.array([1, 1, 1.4])[None, :, None]
    assert (arrays["linf_distance"] <= bounds + 1e-6).all()
    outputs = isa.attack(make_batch(network), norms=["l1"], class_sets=["two"], **QUICK)
    adversarial = next(outputs).images.float()
    targets = torch.from_numpy(arrays["target"][:, 0, 0])
    for row in range(5):
        clean_maps, true, target = network.maps(batch.images)[row], batch.labels[row], targets[row]
        assert target != true
        for point in range(3):
            logits = network(adversarial[point])[row]
            maps = network.maps(adversarial[point])[row]
            quotients = [
                (maps[c] - clean_maps[c]).abs().sum() / (clean_maps[c].max() - clean_maps[c].min())
                for c in (true, target)
            ]
            assert arrays["normalised_discrepancy"][row, point, 0] == pytest.approx(
                float(sum(quotients) / 2), rel=1e-4
            )
            assert arrays["is_valid"][row, point, 0] == bool(logits[target] >= logits[true])
    assert not arrays["n_constant_maps"].any()
    assert arrays["is_valid"].any()


def test_options_of_the_maps_reach_the_interpreter(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"ig_steps": 2, "ig_rule": "sum"}
    seen: list[dict[str, Any]] = []

    def record(*arguments: Any, **named: Any) -> torch.Tensor:
        seen.append(named)
        return interpret(*arguments, **named)

    monkeypatch.setattr(_isa_search, "interpret", record)
    quick = {"steps": 1, "binary_search_steps": 1, "norms": ["l1"], "class_sets": ["one"]}
    list(isa.attack(make_batch(network), interpreter="ig", **quick, **options))
    assert seen
    assert all(named == options | {"variant": "released"} for named in seen)


def test_images_that_prefer_their_target_before_the_attack_do_not_count(network: Network) -> None:
    batch = make_batch(network)
    with torch.no_grad():
        ranks = network(batch.images).argsort(dim=1)
    target = ranks[:, -1]
    # Labels of the second rank: the clean image prefers the target.
    second = AttackBatch(
        network, batch.folded, batch.images, ranks[:, -2], batch.indices, batch.rng
    )
    interpreter = _isa_search.MapInterpreter("cam", "released", 100, "quadrature")
    measure = DiscrepancyMeasure("l1", "one")
    images = batch.images[None]
    assert not isa.measure_extras(second, images, target, interpreter, measure)["is_valid"].any()
    # Here the target is the label: equal logits are no preference.
    assert isa.measure_extras(batch, images, target, interpreter, measure)["is_valid"].all()


def test_table_1_with_the_released_network(shared: Path, tmp_path: Path) -> None:
    """CAM, l1, the first and the last multiplier only, to save time."""
    path = tmp_path / "network.safetensors"
    file = shared / "released" / "networks" / "mnist_smallgap_normal_100.pkl"
    write_checkpoint(path, read_released(file, "mnist", {"kind": "mnist"}, "small", "normal"))
    entry = {"kind": "isa", "norms": "l1", "eps_multipliers": [1, 1.6]}
    options = config.resolve_named("attacks", entry, "test")
    result = evaluate_checkpoint(
        path, "isa", options, shared / "datasets", select_device("cpu"), "test"
    )
    one, two, all_ = (nds.scores_of(result, index) for index in range(3))
    for measure, scores in zip(nds.measures_of(result), (one, two, all_), strict=True):
        published = published_table1()[Table1Key("mnist", "small", "normal", "cam", *measure)]
        assert scores.nds == pytest.approx(published.nds, rel=0.15)
        assert scores.n_images > 80
    assert two.nds > max(one.nds, all_.nds)
    assert two.nsl_per_image < min(one.nsl_per_image, all_.nsl_per_image)
    assert (result.arrays["prediction"] == result.arrays["target"]).mean() > 0.95
