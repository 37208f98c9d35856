"""Random batches for the unforeseen attacks, and one call that attacks them."""

import importlib
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe import config
from irpipe.attacks import AttackBatch
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.training.weight_init import draw_weights

# Columns of Table 5.
NAMES = ["gabor", "snow", "fog", "jpeg_linf", "jpeg_l2", "jpeg_l1"]


def random_batches(
    shape: tuple[int, int, int] = (3, 16, 16),
    batch_size: int = 4,
    logit_factor: float = 1.0,
    n_images: int = 4,
) -> list[AttackBatch]:
    """A sample of `n_images` images and a random network, in batches.

    `logit_factor` multiplies the logits.
    """
    network = build("small", shape, 10)
    draw_weights(network, np.random.RandomState(99))
    with torch.no_grad():
        network.head *= logit_factor
    network = network.requires_grad_(False).eval()
    folded = FoldedNetwork(network, shape)
    draws = np.random.RandomState(5)
    images = torch.from_numpy(draws.uniform(size=(n_images, *shape)))
    labels = torch.from_numpy(draws.randint(10, size=n_images))
    indices = draws.permutation(100)[:n_images]
    rng = np.random.RandomState(11)
    batches = []
    for offset in range(0, n_images, batch_size):
        part = slice(offset, offset + batch_size)
        batches.append(
            AttackBatch(
                network, folded, images[part], labels[part], indices[part], rng, offset=offset
            )
        )
    return batches


def run_attack(batch: AttackBatch, name: str, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Images and extras of the attack that Table 5 calls `name`, at its eps."""
    kind, _, norm = name.partition("_")
    entry = {"kind": kind, "steps": 4, "images": 40, "batch_size": 4, **options}
    if norm:
        entry["norm"] = norm
    resolved = config.resolve_named("attacks", entry, "test")
    module = importlib.import_module(f"irpipe.attacks.{kind}")
    eps = resolved["eps"] or module.default_eps(resolved)
    arguments = {
        key: value for key, value in resolved.items() if key not in ("kind", "seed", "eps")
    }
    (output,) = module.attack(batch, eps=eps, **arguments)
    assert output.axis_value == resolved["steps"]
    assert output.max_distance.isinf().all()
    return output.images[0], {key: value[0] for key, value in output.extras.items()}


def true_class_margin(batch: AttackBatch, images: Tensor) -> Tensor:
    """By how much the logit of the true class exceeds the best other one, `[N]`."""
    logits = batch.network(images.float())
    labels = batch.labels[:, None]
    best_other = logits.scatter(1, labels, -math.inf).amax(dim=1)
    return logits.gather(1, labels)[:, 0] - best_other


def uniform(*shape: int, low: float = 0, high: float = 1, seed: int = 0) -> Tensor:
    """Uniform numbers, float64."""
    return torch.from_numpy(np.random.RandomState(seed).uniform(low, high, shape))
