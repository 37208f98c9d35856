"""Training objectives: their values against numpy, their gradients against finite differences, and what all share."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor
from torch.nn import functional as F

from irpipe import config
from irpipe.methods import Objective, ig, interp, standard, trades
from irpipe.models import Folded, Network, build
from irpipe.optimise import draw_weights
from irpipe.spec import kinds, resolve


class Stub:
    """A classifier with three maps of 2x2 pixels: `scale * tanh(image @ matrix)`."""

    def __init__(self, matrix: Tensor, scale: float = 3.0) -> None:
        self.matrix, self.scale = matrix, scale

    def maps(self, images: Tensor) -> Tensor:
        return self.scale * torch.tanh(images.flatten(1) @ self.matrix).view(-1, 3, 2, 2)

    def __call__(self, images: Tensor) -> Tensor:
        return self.maps(images).mean(dim=(2, 3))


LABELS = np.array([2, 0, 1, 2, 1])


def tiny() -> tuple[Tensor, Tensor, Tensor]:
    """Matrix [4, 12], images and perturbed images [5, 1, 2, 2], float64."""
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(5, 1, 2, 2))
    arrays = rng.normal(size=(4, 12)), images, images + rng.uniform(-0.3, 0.3, size=images.shape)
    matrix, clean, moved = (torch.from_numpy(array) for array in arrays)
    return matrix, clean, moved


def objective(module: Any, **options: Any) -> Objective:
    matrix, images, _ = tiny()
    made: Objective = module.objective(Stub(matrix), images, torch.from_numpy(LABELS), **options)
    return made


# --- the same in numpy -----------------------------------------------------------------------------------


def np_maps(images: Tensor) -> np.ndarray:
    return 3 * np.tanh(images.numpy().reshape(-1, 4) @ tiny()[0].numpy()).reshape(-1, 3, 4)


def np_softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def np_entropy(images: Tensor) -> float:
    probability = np_softmax(np_maps(images).mean(axis=2))
    return float(np.mean([-np.log(row[label]) for row, label in zip(probability, LABELS, strict=True)]))


def np_discrepancy(images: Tensor, moved: Tensor, one: bool, over_all: bool) -> float:
    """The released code's: the softmax with the true class zeroed, then divided by what is left (C.2)."""
    before, after, total = np_maps(images), np_maps(moved), 0.0
    for i, label in enumerate(LABELS):
        weights = np_softmax(after.mean(axis=2))[i]
        if not over_all:
            weights = weights / (1 - weights[label])
        for c in range(3):
            change = sum(abs(after[i, c, p] - before[i, c, p]) for p in range(4))
            total += change if c == label else 0.0 if one else weights[c] * change
    return total / len(LABELS)


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize(("classes", "softmax"), [("one", "others"), ("two", "others"), ("two", "all")])
def test_int_equals_numpy(classes: str, softmax: str, halved: bool, adversarial: bool) -> None:
    _, images, moved = tiny()
    options = {"classes": classes, "softmax": softmax, "halved": halved, "adversarial": adversarial, "weight": 0.7}
    fitted = np_entropy(moved if adversarial else images)
    change = np_discrepancy(images, moved, classes == "one", softmax == "all") * (0.5 if halved else 1)
    assert change > 0.3
    found = {inner: objective(interp, inner=inner, **options) for inner in ("joint", "loss", "discrepancy")}
    expected = {"joint": fitted + 0.7 * change, "loss": np_entropy(moved), "discrepancy": change}
    if adversarial:
        assert expected["loss"] == fitted
    for inner, made in found.items():
        assert made.loss(moved).item() == pytest.approx(fitted + 0.7 * change, rel=1e-12)
        assert made.maximised()(moved).item() == pytest.approx(expected[inner], rel=1e-12)


def test_defaults_of_int_are_the_released_codes() -> None:
    _, images, moved = tiny()
    expected = np_entropy(images) + 0.01 * np_discrepancy(images, moved, one=False, over_all=False)
    made = objective(interp)
    assert made.loss(moved).item() == pytest.approx(expected, rel=1e-12)
    assert made.maximised()(moved).item() == pytest.approx(expected, rel=1e-12)  # joint, C.3 T5
    assert (made.attacked, made.start) == (True, "uniform")


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("softmax", ["others", "all"])
def test_int_stays_finite_where_probabilities_underflow(softmax: str, size: float) -> None:
    # The true class' logit is far from the others': exp(-2e4) is 0 even in float64, and 0/0 would be NaN (C.2).
    matrix, images, moved = (part.float() for part in tiny())
    labels, scale = torch.zeros(5, dtype=torch.int64), torch.tensor([size, -size, -size]).repeat_interleave(4)
    matrix = (matrix.abs() * scale.sign()).requires_grad_()
    made = interp.objective(Stub(matrix, abs(size)), images, labels, softmax=softmax)  # type: ignore[arg-type]
    loss = made.loss(moved.requires_grad_())
    gradients = torch.autograd.grad(loss, (matrix, moved))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_standard_by_hand() -> None:
    # logits 0 and ln 3 give probabilities 1/4 and 3/4: label 0 costs ln 4, label 1 costs ln 4/3.
    class Logits(Stub):
        def __call__(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    clean, labels = torch.tensor([[0, np.log(3)], [0, np.log(3)]]).view(2, 1, 1, 2), torch.tensor([0, 1])
    stub, moved = Logits(torch.zeros(0)), torch.zeros(2, 1, 1, 2)
    expected = (np.log(4) + np.log(4 / 3)) / 2
    normal = standard.objective(stub, clean, labels, attacked=False)
    adv = standard.objective(stub, clean, labels, attacked=True)
    assert normal.loss(moved).item() == pytest.approx(expected, rel=1e-6)
    assert adv.loss(clean).item() == pytest.approx(expected, rel=1e-6)
    assert adv.loss(moved).item() == pytest.approx(np.log(2), rel=1e-6)
    assert (normal.attacked, adv.attacked) == (False, True)


@pytest.mark.parametrize(("beta", "summed"), [(1.0, True), (6.0, False)])
def test_trades_equals_numpy(beta: float, summed: bool) -> None:
    _, images, moved = tiny()
    p, q = (np_softmax(np_maps(part).mean(axis=2)) for part in (images, moved))
    divergence = (p * (np.log(p) - np.log(q))).sum() / 5
    assert divergence > 0.01
    expected = (np_entropy(images) + beta * divergence) * (5 if summed else 1)
    assert objective(trades, beta=beta, summed=summed).loss(moved).item() == pytest.approx(expected, rel=1e-12)
    assert objective(trades, start="gaussian").start == "gaussian"


def np_attributions(images: Tensor, moved: Tensor, points: int) -> np.ndarray:
    """Gradient of the cross-entropy by hand: softmax minus one, through the mean and the tanh."""
    matrix, clean, move = tiny()[0].numpy(), images.numpy().reshape(5, 4), (moved - images).numpy().reshape(5, 4)
    total = np.zeros_like(clean)
    for k in range(1, points + 1):
        squashed = np.tanh((clean + move * k / points) @ matrix)
        error = np_softmax(3 * squashed.reshape(5, 3, 4).mean(axis=2)) - np.eye(3)[LABELS]
        total += (np.repeat(error, 4, axis=1) * 3 / 4 * (1 - squashed**2)) @ matrix.T
    return move * total / points


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_ig_equals_numpy(adversarial: bool, per_image: bool) -> None:
    _, images, moved = tiny()
    made = objective(ig, adversarial=adversarial, per_image=per_image, weight=0.9, points=5, inner_points=2)
    for points, function in ((5, made.loss), (2, made.maximised())):
        norm = np.abs(np_attributions(images, moved, points)).sum() / 5
        assert norm > 0.05
        expected = np_entropy(moved if adversarial else images) + 0.9 * norm / (1 if per_image else 5)  # C.3 T6
        assert function(moved).item() == pytest.approx(expected, rel=1e-7)  # fractions of the path are float32


@pytest.mark.parametrize("points", [5, 50])
def test_attributions_equal_captums(points: int) -> None:
    matrix, images, moved = tiny()
    labels = torch.from_numpy(LABELS)

    def loss(shown: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(Stub(matrix)(shown), wanted, reduction="none")

    theirs = IntegratedGradients(loss).attribute(
        moved, images, additional_forward_args=(labels,), n_steps=points, method="riemann_right"
    )
    ours = ig.attributions(Stub(matrix), images, moved, labels, points)
    torch.testing.assert_close(ours.detach(), theirs, rtol=1e-6, atol=1e-9)  # fractions of the path are float32


# --- what all methods share ----------------------------------------------------------------------------

ENTRIES = [
    (f"{path.stem}-{name}", entry)
    for path in sorted(config.SHIPPED.glob("*.yaml"))
    for name, entry in config.read(path).get("methods", {}).items()
]
SHIPPED = {entry["kind"] for _, entry in ENTRIES}
ENTRIES += [(kind, {"kind": kind}) for kind in kinds("methods") if kind not in SHIPPED]
every_method = pytest.mark.parametrize("entry", [entry for _, entry in ENTRIES], ids=[name for name, _ in ENTRIES])


def made(entry: dict[str, Any], network: Any, images: Tensor, labels: Tensor) -> Objective:
    options = resolve("methods", entry, "here")
    function: Callable[..., Objective] = importlib.import_module(f"irpipe.methods.{options.pop('kind')}").objective
    return function(network, images, labels, **options)


def small() -> tuple[Network, Tensor, Tensor, Tensor]:
    network, generator = build("small", (1, 28, 28), 10), torch.Generator().manual_seed(2)
    draw_weights(network, np.random.RandomState(3))
    with torch.no_grad():
        network.head *= 30  # as drawn, the logits hardly depend on the image
    images = torch.rand(3, 1, 28, 28, generator=generator)
    moved = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    return network, images, moved, torch.tensor([1, 7, 7])


def test_every_kind_is_tried() -> None:
    assert {entry["kind"] for _, entry in ENTRIES} == set(kinds("methods")) >= {"standard", "interp"}


@every_method
def test_gradients_equal_finite_differences(entry: dict[str, Any]) -> None:
    def loss(matrix: Tensor, images: Tensor, moved: Tensor) -> Tensor:
        return made(entry, Stub(matrix), images, torch.from_numpy(LABELS)).loss(moved)

    inputs = tuple(part.requires_grad_() for part in tiny())
    assert torch.autograd.gradcheck(loss, inputs, atol=1e-7, rtol=1e-5)


@every_method
def test_loss_is_a_finite_scalar_that_moves_every_weight(entry: dict[str, Any]) -> None:
    network, images, moved, labels = small()
    found = made(entry, network, images, labels)
    loss = found.loss(moved if found.attacked else images)
    assert loss.shape == ()
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, list(network.parameters())):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0
    assert (found.loss(moved).item() != found.loss(images).item()) == found.attacked


@every_method
def test_without_a_perturbation_only_the_cross_entropy_is_left(entry: dict[str, Any]) -> None:
    network, images, _, labels = small()
    found = made(entry, network, images, labels).loss(images)
    gradients = torch.autograd.grad(found, list(network.parameters()))
    plain = F.cross_entropy(network(images), labels)
    scale = (found / plain).item()
    assert scale == pytest.approx(round(scale), rel=1e-5)
    assert round(scale) in {1, len(labels)}  # TRADES' is a sum over the batch, C.2
    expected = torch.autograd.grad(plain, list(network.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, scale * theirs, rtol=1e-4, atol=1e-5)


@every_method
def test_inner_objective_is_the_same_on_the_folded_network(entry: dict[str, Any]) -> None:
    network, images, moved, labels = small()
    with torch.no_grad():  # as in training
        folded = made(entry, Folded(network, images.shape[1:]), images, labels).maximised()
    plain = made(entry, network, images, labels).maximised()
    inputs = moved.clone().requires_grad_(), moved.clone().requires_grad_()
    values = folded(inputs[0]), plain(inputs[1])
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-5)
    if made(entry, network, images, labels).attacked:
        (ours,), (theirs,) = (torch.autograd.grad(v, i) for v, i in zip(values, inputs, strict=True))
        largest = theirs.abs().max().item()
        assert largest > 1e-4
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=largest / 1000)


@every_method
def test_parts_of_a_batch_are_perturbed_alike_where_the_method_says_so(entry: dict[str, Any]) -> None:
    network, images, moved, labels = small()
    network, images, moved = network.double(), images.double(), moved.double()

    def uphill(part: slice) -> Tensor:
        found = made(entry, network, images[part], labels[part]).maximised()
        point = moved[part].clone().requires_grad_()
        return torch.autograd.grad(found(point), point)[0]

    declared = made(entry, network, images, labels)
    if declared.attacked:
        whole, parts = uphill(slice(None)), torch.cat([uphill(slice(1)), uphill(slice(1, None))])
        assert (whole != 0).any()
        assert bool((whole.sign() == parts.sign()).all()) == declared.apart
