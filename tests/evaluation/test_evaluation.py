"""The evaluator does not trust an attack: it checks the images and scores them itself (D.4)."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_small_batch
from torch import Tensor

from irpipe import evaluation
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.evaluation.checks import check_images


def same_bounds(*eps: float) -> Tensor:
    """The largest distances of two images, `[E, 2]`."""
    return torch.tensor(eps)[:, None].expand(-1, 2)


def test_the_distance_of_each_image_is_measured() -> None:
    clean = torch.full((2, 1, 2, 2), 0.5)
    adversarial = clean.repeat(3, 1, 1, 1, 1)
    adversarial[1, 0, 0, 1, 0] = 0.4
    adversarial[2, 1, 0, 0, 0] = 0.75
    distance = check_images(adversarial, clean, same_bounds(0, 0.1, 0.3), "mine")
    torch.testing.assert_close(distance, torch.tensor([[0, 0], [0.1, 0], [0, 0.25]]))


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        ((1, 0, 0, 0, 0), 0.601, r"moved an image by 0\.101000 where 0\.100000 is allowed"),
        ((1, 0, 0, 0, 0), 0.3, r"moved an image by 0\.200000 where"),
        # Each eps bounds its own images.
        ((0, 1, 0, 1, 1), 0.51, r"moved an image by 0\.010000 where 0\.000000 is"),
        ((1, 0, 0, 0, 0), 1.001, r"yielded pixels outside \[0, 1\]"),
        ((1, 0, 0, 0, 0), -0.001, r"yielded pixels outside \[0, 1\]"),
        ((1, 0, 0, 0, 0), float("nan"), "yielded images that are not finite"),
        ((1, 0, 0, 0, 0), float("inf"), "yielded images that are not finite"),
    ],
)
def test_images_that_break_a_rule_are_refused(
    index: tuple[int, ...], value: float, message: str
) -> None:
    clean = torch.full((2, 1, 2, 2), 0.5)
    adversarial = clean.repeat(2, 1, 1, 1, 1)
    adversarial[index] = value
    with pytest.raises(RuntimeError, match=f"^attack mine: {message}"):
        check_images(adversarial, clean, same_bounds(0, 0.1), "mine")


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (1, 2, 1, 2, 2), (2, 2, 1, 2, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    clean = torch.full((2, 1, 2, 2), 0.5)
    message = rf"^attack mine: yielded images of shape \({shape[0]}, .*, not \(2, 2, 1, 2, 2\)"
    with pytest.raises(RuntimeError, match=message):
        check_images(torch.full(shape, 0.5), clean, same_bounds(0, 0.1), "mine")


def test_images_are_scored_by_the_network_itself() -> None:
    """At eps = 0 the clean images are scored; the attack does not get that eps."""
    batch = make_small_batch()
    calls: list[tuple[list[float], int]] = []

    def attack(batch: AttackBatch, *, eps: list[float], mine: int) -> Iterator[AttackOutput]:
        calls.append((eps, mine))
        for count in (2, 7):
            images = [(batch.images + bound * count / 10).clamp(0, 1) for bound in eps]
            yield AttackOutput(count, torch.stack(images))

    kind = SimpleNamespace(attack=attack, __name__="mine")
    arrays = evaluate_attack(batch, kind, [0.1, 0.0, 0.2], mine=3)
    assert calls == [([0.1, 0.2], 3)]
    assert arrays["steps"].tolist() == [2, 7]
    for e, eps in enumerate([0.1, 0.0, 0.2]):
        for s, count in enumerate((2, 7)):
            images = (batch.images + eps * count / 10).clamp(0, 1)
            logits = batch.network(images)
            prediction = logits.argmax(dim=1)
            assert arrays["prediction"][:, e, s].tolist() == prediction.tolist()
            is_correct = prediction == batch.labels
            assert arrays["correct"][:, e, s].tolist() == is_correct.tolist()
            true_logits = logits[range(len(logits)), batch.labels]
            loss = torch.logsumexp(logits, dim=1) - true_logits
            np.testing.assert_allclose(arrays["loss"][:, e, s], loss, atol=1e-5)
            distance = (images - batch.images).abs().amax(dim=(1, 2, 3))
            np.testing.assert_allclose(arrays["linf_distance"][:, e, s], distance, atol=1e-7)


def test_an_own_attack_replaces_no_array_of_the_evaluator() -> None:
    """Neither by its metrics, which get copies of all images, nor by its files."""
    batch, clean = make_small_batch(), make_small_batch().images
    saved: list[Tensor] = []

    def attack(batch: AttackBatch, *, eps: list[float]) -> Iterator[AttackOutput]:
        yield AttackOutput(1, batch.images[None], files={"loss": [[b""] * 12]})

    def metrics(batch: AttackBatch, images: Tensor) -> dict[str, Tensor]:
        batch.images.zero_()
        images.zero_()
        return {"correct": torch.ones(1, 12, dtype=torch.bool), "mine": torch.ones(1, 12)}

    kind = SimpleNamespace(attack=attack, metrics=metrics)
    options = {"kind": "./mine.py", "eps": [0.1]}
    arrays = evaluation._attack_batch(batch, kind, options, saved.append)
    assert arrays["correct"][:, 0, 0].tolist() == [False] + [True] * 11
    assert arrays["loss"].dtype == np.float32
    assert arrays["mine"].all()
    assert torch.equal(saved[0][0], clean)
    assert torch.equal(batch.images, clean)
