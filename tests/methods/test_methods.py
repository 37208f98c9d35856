"""Each method's losses, against numpy, captum or values computed by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from tiny_classifier import LABELS, TanhClassifier, tiny_batch
from torch import Tensor
from torch.nn import functional as F

from irpipe.methods import Objective, cross_entropy, ig_norm, interpretability_aware, trades


def objective(method: Any, **options: Any) -> Objective:
    matrix, images, _ = tiny_batch()
    labels = torch.from_numpy(LABELS)
    tiny: Objective = method.objective(TanhClassifier(matrix), images, labels, **options)
    return tiny


# --- the same in numpy ---------------------------------------------------------------------


def np_maps(images: Tensor) -> np.ndarray:
    matrix = tiny_batch()[0].numpy()
    return 3 * np.tanh(images.numpy().reshape(-1, 4) @ matrix).reshape(-1, 3, 4)


def np_softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def np_cross_entropy(images: Tensor) -> float:
    probability = np_softmax(np_maps(images).mean(axis=2))
    true = [row[label] for row, label in zip(probability, LABELS, strict=True)]
    return float(np.mean([-np.log(p) for p in true]))


def np_discrepancy(
    images: Tensor, perturbed: Tensor, is_one_class: bool, softmax_over_all: bool
) -> float:
    """D as the released code has it: set the true class to 0, divide by what is left (C.2)."""
    clean_maps, maps = np_maps(images), np_maps(perturbed)
    total = 0.0
    for i, label in enumerate(LABELS):
        q = np_softmax(maps.mean(axis=2))[i]
        if not softmax_over_all:
            q = q / (1 - q[label])
        for c in range(3):
            change = sum(abs(maps[i, c, p] - clean_maps[i, c, p]) for p in range(4))
            if c == label:
                total += change
            elif not is_one_class:
                total += q[c] * change
    return total / len(LABELS)


def np_attributions(images: Tensor, perturbed: Tensor, ig_steps: int) -> np.ndarray:
    """Gradient of the cross-entropy by hand: softmax minus one, through the mean and the tanh."""
    matrix = tiny_batch()[0].numpy()
    clean = images.numpy().reshape(5, 4)
    change = (perturbed - images).numpy().reshape(5, 4)
    total = np.zeros_like(clean)
    for k in range(1, ig_steps + 1):
        tanh = np.tanh((clean + change * k / ig_steps) @ matrix)
        error = np_softmax(3 * tanh.reshape(5, 3, 4).mean(axis=2)) - np.eye(3)[LABELS]
        total += (np.repeat(error, 4, axis=1) * 3 / 4 * (1 - tanh**2)) @ matrix.T
    return change * total / ig_steps


# --- the methods ---------------------------------------------------------------------------


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("half_factors", [False, True])
@pytest.mark.parametrize(
    ("class_set", "softmax_over"), [("one", "other"), ("two", "other"), ("two", "all")]
)
def test_int_equals_numpy(
    class_set: str, softmax_over: str, half_factors: bool, adversarial: bool
) -> None:
    _, images, perturbed = tiny_batch()
    options = {
        "class_set": class_set,
        "softmax_over": softmax_over,
        "half_factors": half_factors,
        "adversarial": adversarial,
        "reg_weight": 0.7,
    }
    ce = np_cross_entropy(perturbed if adversarial else images)
    d = np_discrepancy(images, perturbed, class_set == "one", softmax_over == "all")
    d *= 0.5 if half_factors else 1
    assert d > 0.3
    inner_losses = {
        "total": ce + 0.7 * d,
        "cross_entropy": np_cross_entropy(perturbed),
        "discrepancy": d,
    }
    if adversarial:
        assert inner_losses["cross_entropy"] == ce
    for inner_loss, expected in inner_losses.items():
        tiny = objective(interpretability_aware, inner_loss=inner_loss, **options)
        assert tiny.loss(perturbed).item() == pytest.approx(ce + 0.7 * d, rel=1e-12)
        assert tiny.get_inner_loss()(perturbed).item() == pytest.approx(expected, rel=1e-12)


def test_defaults_of_int_are_those_of_the_released_code() -> None:
    _, images, perturbed = tiny_batch()
    d = np_discrepancy(images, perturbed, is_one_class=False, softmax_over_all=False)
    expected = np_cross_entropy(images) + 0.01 * d
    tiny = objective(interpretability_aware)
    assert tiny.loss(perturbed).item() == pytest.approx(expected, rel=1e-12)
    # C.3 T5: the perturbation maximises the total.
    assert tiny.get_inner_loss()(perturbed).item() == pytest.approx(expected, rel=1e-12)
    assert (tiny.uses_adversarial, tiny.init) == (True, "uniform")


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("softmax_over", ["other", "all"])
def test_int_stays_finite_where_probabilities_underflow(softmax_over: Any, size: float) -> None:
    # The logit of the true class is far from the others: exp(-2e4) is 0 even in float64, and the
    # released code's 0/0 would be NaN (C.2).
    matrix, images, perturbed = (tensor.float() for tensor in tiny_batch())
    labels = torch.zeros(5, dtype=torch.int64)
    sign = torch.tensor([size, -size, -size]).repeat_interleave(4).sign()
    matrix = (matrix.abs() * sign).requires_grad_()
    large = interpretability_aware.objective(
        TanhClassifier(matrix, abs(size)), images, labels, softmax_over=softmax_over
    )
    loss = large.loss(perturbed.requires_grad_())
    gradients = torch.autograd.grad(loss, (matrix, perturbed))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_cross_entropy_by_hand() -> None:
    # Logits 0 and ln 3 give probabilities 1/4 and 3/4: label 0 costs ln 4, label 1 costs ln 4/3.
    class PixelsAreLogits(TanhClassifier):
        def __call__(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    images = torch.tensor([[0, np.log(3)], [0, np.log(3)]]).view(2, 1, 1, 2)
    labels = torch.tensor([0, 1])
    classifier, perturbed = PixelsAreLogits(torch.zeros(0)), torch.zeros(2, 1, 1, 2)
    expected = (np.log(4) + np.log(4 / 3)) / 2
    normal = cross_entropy.objective(classifier, images, labels, adversarial=False)
    adv = cross_entropy.objective(classifier, images, labels, adversarial=True)
    assert normal.loss(perturbed).item() == pytest.approx(expected, rel=1e-6)
    assert adv.loss(images).item() == pytest.approx(expected, rel=1e-6)
    assert adv.loss(perturbed).item() == pytest.approx(np.log(2), rel=1e-6)
    assert (normal.uses_adversarial, adv.uses_adversarial) == (False, True)


@pytest.mark.parametrize(("beta", "reduction"), [(1.0, "sum"), (6.0, "mean")])
def test_trades_equals_numpy(beta: float, reduction: str) -> None:
    _, images, perturbed = tiny_batch()
    p, q = (np_softmax(np_maps(tensor).mean(axis=2)) for tensor in (images, perturbed))
    divergence = (p * (np.log(p) - np.log(q))).sum() / 5
    assert divergence > 0.01
    n = 5 if reduction == "sum" else 1
    expected = (np_cross_entropy(images) + beta * divergence) * n
    loss = objective(trades, beta=beta, reduction=reduction).loss(perturbed)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert objective(trades, init="gaussian").init == "gaussian"


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_ig_norm_equals_numpy(adversarial: bool, per_image: bool) -> None:
    _, images, perturbed = tiny_batch()
    options = {"per_image": per_image, "reg_weight": 0.9, "ig_steps": 5, "inner_ig_steps": 2}
    tiny = objective(ig_norm, adversarial=adversarial, **options)
    for ig_steps, loss in ((5, tiny.loss), (2, tiny.get_inner_loss())):
        norm = np.abs(np_attributions(images, perturbed, ig_steps)).sum() / 5
        assert norm > 0.05
        ce = np_cross_entropy(perturbed if adversarial else images)
        expected = ce + 0.9 * norm / (1 if per_image else 5)  # C.3 T6: 1/N of the weight
        # The fractions of the path are float32.
        assert loss(perturbed).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("ig_steps", [5, 50])
def test_attributions_equal_captum(ig_steps: int) -> None:
    matrix, images, perturbed = tiny_batch()
    labels = torch.from_numpy(LABELS)

    def loss(points: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(TanhClassifier(matrix)(points), targets, reduction="none")

    expected = IntegratedGradients(loss).attribute(
        perturbed,
        images,
        additional_forward_args=(labels,),
        n_steps=ig_steps,
        method="riemann_right",
    )
    ig = ig_norm.attributions(TanhClassifier(matrix), images, perturbed, labels, ig_steps)
    # The fractions of the path are float32.
    torch.testing.assert_close(ig.detach(), expected, rtol=1e-6, atol=1e-9)
