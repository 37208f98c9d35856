"""PGD and margin PGD in the l2 and the l1 norm."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from made_batches import evaluate_attack, make_digit_batch
from torch import Tensor, nn

from irpipe import evaluation
from irpipe.attacks import AttackBatch, margin_pgd, pgd
from irpipe.config.kinds import resolve_entry
from irpipe.errors import IrpipeError

ORDERS = {"l2": 2, "l1": 1}
NORMS = pytest.mark.parametrize("norm", ["l2", "l1"])


def lengths(change: Tensor, norm: str) -> np.ndarray:
    """Norms of changes `[..., C, H, W]`, in float64."""
    flat = change.detach().double().flatten(-3).numpy()
    values: np.ndarray = np.linalg.norm(flat, ord=ORDERS[norm], axis=-1)
    return values


def linear_batch() -> AttackBatch:
    """Two classes whose logits are -+ w x, where w has known entries, and grey images of class 0.

    So an image at distance d in the direction that an attack should take is misclassified just
    beyond w x' = 0.
    """
    weights = torch.arange(1.0, 17.0).view(1, 1, 4, 4)

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Parameter(torch.zeros(2, 1))

        def forward(self, images: Tensor) -> Tensor:
            excess = ((images - 0.5) * weights).sum(dim=(1, 2, 3)) - 1
            return torch.stack([-excess, excess], dim=1)

    network: Any = Linear()
    images = torch.full((3, 1, 4, 4), 0.5)
    return AttackBatch(
        network=network,
        folded=network,
        images=images,
        labels=torch.zeros(3, dtype=torch.int64),
        indices=np.arange(3),
        rng=np.random.RandomState(0),
    )


@NORMS
@pytest.mark.parametrize("kind", [pgd, margin_pgd])
def test_the_best_change_of_a_linear_network_is_found(kind: ModuleType, norm: str) -> None:
    """w x' = 1 needs |x'|_2 = 1 / |w|_2, and |x'|_1 = 1 / 16, all of it on the last pixel."""
    needed = 1 / 16 if norm == "l1" else 1 / np.linalg.norm(np.arange(1, 17))
    options: dict[str, Any] = {"steps": [50], "norm": norm}
    if kind is pgd:
        options["step_size_factor"] = 2.5
    eps = [0.97 * needed, 1.03 * needed]
    (output,) = kind.attack(linear_batch(), eps=eps, **options)
    network = linear_batch().network
    predictions = torch.stack([network(images).argmax(dim=1) for images in output.images])
    assert predictions.tolist() == [[0] * 3, [1] * 3]
    assert (lengths(output.images - 0.5, norm) <= np.array(eps)[:, None] + 1e-6).all()


@NORMS
@pytest.mark.parametrize("kind", [pgd, margin_pgd])
def test_a_larger_ball_leaves_fewer_and_the_result_names_its_norm(
    kind: ModuleType, norm: str
) -> None:
    batch = make_digit_batch(12)
    eps = [0.01, 0.3, 3.0] if norm == "l2" else [0.05, 3.0, 60.0]
    options = {"step_size_factor": 2.5} if kind is pgd else {}
    arrays = evaluate_attack(batch, kind, eps, norm=norm, steps=[20], **options)
    left = arrays["correct"][:, :, 0].mean(axis=0)
    assert left[0] > left[2]
    assert (np.diff(left) <= 0).all()
    distance = arrays[f"{norm}_distance"][:, :, 0]
    assert (distance <= np.array(eps) + 1e-6).all()
    assert distance[:, 0].max() > 0.9 * eps[0]
    assert (arrays["linf_distance"][:, :, 0] <= distance + 1e-6).all()


@NORMS
def test_pgd_may_start_at_random(norm: str) -> None:
    arrays = evaluate_attack(
        make_digit_batch(4), pgd, [0.5], norm=norm, steps=[1], random_start=True
    )
    assert (arrays[f"{norm}_distance"] <= 0.5 + 1e-6).all()


@pytest.mark.parametrize(("norm", "reached"), [("l2", 0.5), ("l1", 0.7)])
def test_the_evaluator_measures_in_the_norm_of_eps(norm: str, reached: float) -> None:
    batch = make_digit_batch(2)
    clean = torch.full_like(batch.images, 0.5)
    moved = clean.clone()
    moved[:, 0, 0, 0] += 0.3
    moved[:, 0, 3, 3] -= 0.4
    for bound, is_allowed in ((reached + 1e-5, True), (reached - 1e-5, False)):
        limit = torch.full((1, 2), bound, dtype=torch.float64)
        if is_allowed:
            distance = evaluation.check_images(moved[None], clean, limit, "k", norm)  # type: ignore
            assert distance.flatten().tolist() == pytest.approx([reached] * 2, abs=1e-6)
            continue
        with pytest.raises(
            RuntimeError, match=rf"moved an image by {reached}0* where .*, in {norm}"
        ):
            evaluation.check_images(moved[None], clean, limit, "k", norm)  # type: ignore


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "pgd", "eps": 1.5}, "eps.0: input should be less than or equal to 1"),
        ({"kind": "pgd", "eps": 1.5, "norm": "l3"}, "norm: input should be 'linf', 'l2' or 'l1'"),
        ({"kind": "autoattack", "eps": 1.5}, "eps.0: input should be less than or equal to 1"),
        ({"kind": "aai", "eps": 0.1, "norm": "l2"}, "norm: "),
    ],
)
def test_what_a_config_may_not_say(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(IrpipeError, match=message):
        resolve_entry("attacks", entry, "here")
    assert resolve_entry("attacks", {"kind": "pgd", "eps": 1.5, "norm": "l2"}, "here")["eps"] == [
        1.5
    ]


def test_an_l2_attack_needs_eps_of_its_own() -> None:
    options = resolve_entry("attacks", {"kind": "pgd", "norm": "l2"}, "here")
    with pytest.raises(IrpipeError, match="those of the data set are l-inf bounds"):
        evaluation._default_eps(pgd, None, options)
