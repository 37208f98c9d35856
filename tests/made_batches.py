"""Attack batches with networks whose answers are known, and the evaluator's view of an attack."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irpipe import evaluation
from irpipe.attacks import AttackBatch
from irpipe.datasets import load
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.training.weight_init import draw_weights

SHAPE = (1, 8, 8)
DIGIT_SHAPE = (1, 28, 28)


def make_network(seed: int, shape: tuple[int, ...] = SHAPE, n_classes: int = 4) -> Network:
    """A network Small with random weights."""
    network = build("small", shape, n_classes)
    draw_weights(network, np.random.RandomState(seed))
    return network.requires_grad_(False).eval()


def fit_head(network: Network) -> None:
    """Fit the head of a network for the data set digits to 400 of them, by least squares.

    In float32, the fifth digit of its weights would differ from call to call.
    """
    digits = load({"kind": "digits"}, Path("unused"), "train")
    with torch.no_grad():
        features = network.features(digits.images[:400]).mean(dim=(2, 3)).double()
        one_hot = torch.eye(10, dtype=torch.float64)[digits.labels[:400]]
        network.head.copy_(torch.linalg.lstsq(features, one_hot).solution.T)


def make_batch(network: Network, images: Tensor, labels: Tensor) -> AttackBatch:
    """A batch whose random numbers have the seed 11."""
    return AttackBatch(
        network=network,
        folded=FoldedNetwork(network, images.shape[1:]),
        images=images,
        labels=labels,
        indices=np.arange(len(images)),
        rng=np.random.RandomState(11),
    )


def make_digit_batch(n_images: int) -> AttackBatch:
    """Random images of 28 x 28, ten classes; the network classifies all of them correctly."""
    network = make_network(1, DIGIT_SHAPE, 10)
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(n_images, *DIGIT_SHAPE, generator=generator)
    return make_batch(network, images, network(images).argmax(dim=1))


def make_small_batch() -> AttackBatch:
    """Twelve random images of 8 x 8, four classes; the network misclassifies the first one."""
    network = make_network(1)
    images = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(4))
    labels = network(images).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 4
    return make_batch(network, images, labels)


def evaluate_attack(
    batch: AttackBatch, kind: Any, eps: list[float], **options: Any
) -> dict[str, np.ndarray]:
    """Arrays `[N, E, S]` of the evaluator, which checks the images."""
    name = kind.__name__.split(".")[-1]
    return evaluation._attack_batch(batch, kind, {"kind": name, "eps": eps, **options})
