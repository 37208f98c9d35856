"""The unforeseen attacks of Table 5 on CIFAR-10 Small, against the same on the unfolded network.

This shows what folding the head is worth in attacks whose every step also renders images.
"""

import dataclasses
import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Row, Setup, comparison, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe import config
from irpipe.attacks import AttackBatch
from irpipe.datasets import load
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import load_network

N_IMAGES = 40
STEPS = 20
ATTACKS: tuple[dict[str, Any], ...] = (
    {"kind": "gabor"},
    {"kind": "snow"},
    {"kind": "jpeg", "norm": "linf"},
    {"kind": "jpeg", "norm": "l2"},
    {"kind": "jpeg", "norm": "l1"},
    {"kind": "fog"},
)


def run_attack(batch: AttackBatch, entry: dict[str, Any]) -> Tensor:
    """Adversarial images `[1, N, C, H, W]` at Table 5's eps."""
    entry = entry | {"steps": STEPS, "images": N_IMAGES, "batch_size": N_IMAGES}
    options = config.resolve_named("attacks", entry, "benchmark")
    kind = importlib.import_module(f"irpipe.attacks.{options['kind']}")
    arguments = {name: options[name] for name in kind.attack.__kwdefaults__ if name in options}
    arguments["eps"] = kind.default_eps(options)
    (output,) = kind.attack(batch, **arguments)
    return cast(Tensor, output.images)


def rows(setup: Setup) -> Iterator[Row]:
    """Yield one comparison per attack."""
    path = setup.checkpoint("cifar10", "small", "int")
    checkpoint = read_checkpoint(path)
    network = load_network(checkpoint, path)
    test = load(checkpoint.metadata["data"], setup.data, "test")
    batch = AttackBatch(
        network=network,
        folded=FoldedNetwork(network, (3, 32, 32)),
        images=test.images[:N_IMAGES],
        labels=test.labels[:N_IMAGES],
        indices=np.arange(N_IMAGES),
        rng=np.random.RandomState(99),
    )
    plain = cast(FoldedNetwork, PlainNetwork(network).requires_grad_(False))
    plain_batch = dataclasses.replace(batch, folded=plain)
    for entry in ATTACKS:
        results, (seconds, plain_seconds) = time_in_turns(
            setup.rounds, partial(run_attack, batch, entry), partial(run_attack, plain_batch, entry)
        )
        with torch.no_grad():
            is_correct, plain_is_correct = (
                network(images.flatten(0, 1).float()).argmax(dim=1) == batch.labels
                for images in results
            )
        n_equal = int((is_correct == plain_is_correct).sum())
        name = " ".join(str(value) for value in entry.values())
        yield comparison(
            f"{name}, {STEPS} steps, {N_IMAGES} images",
            "unfolded network",
            seconds,
            plain_seconds,
            f"{n_equal} of {N_IMAGES} images",
        )
