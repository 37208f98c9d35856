"""Transfer attack: images made against other networks, the surrogates (C.4 P7)."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from irpipe.attacks import AttackBatch, AttackOutput, margin_pgd
from irpipe.attacks._margin_loss import image_margin_loss
from irpipe.datasets import facts
from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import load_network
from irpipe.networks.network import Network
from irpipe.option_types import Count, EpsList, Names

PROTOCOL = ("C.4 P7",)


def provenance(options: dict[str, Any]) -> dict[str, Any]:
    """`surrogates_sha256`: the hash of each surrogate. Reports refuse to mix different ones."""
    paths = map(Path, options["surrogates"])
    return {"surrogates_sha256": [read_checkpoint(path).sha256 for path in paths]}


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # Checkpoints of other networks. One that holds the attacked network itself is left out.
    surrogates: Names,
    # Steps of margin_pgd on each surrogate, from one random start.
    steps: Count = 100,
) -> Iterator[AttackOutput]:
    """Yield the surrogates' image of largest margin loss, `[E, N, C, H, W]`, at `steps`.

    Extras: `surrogate` `[E, N]`, the number of the surrogate that gave the image, counted from
    1. Raises IrpipeError if a surrogate cannot be read, takes images of another shape or has
    another number of classes, or if all surrogates are the attacked network.
    """
    worst = batch.images.repeat(len(eps), 1, 1, 1, 1)
    shape = worst.shape[:2]
    margin = worst.new_full(shape, -torch.inf, dtype=torch.float32)
    surrogate = batch.labels.new_zeros(shape)
    for number, path in enumerate(map(Path, surrogates), 1):
        network = _load_surrogate(path, batch)
        if torch.equal(network.head, batch.network.head):
            continue
        folded = FoldedNetwork(network, batch.folded.shape)
        surrogate_batch = dataclasses.replace(batch, network=network, folded=folded, certified={})
        (output,) = margin_pgd.attack(surrogate_batch, eps=eps, steps=[steps], restarts=1)
        new_margin = image_margin_loss(
            batch.folded, output.images.flatten(0, 1), batch.labels.repeat(len(eps))
        ).view(shape)
        is_worse = new_margin > margin
        worst[is_worse] = output.images[is_worse]
        margin[is_worse] = new_margin[is_worse]
        surrogate[is_worse] = number
    if not bool(surrogate.all()):
        raise IrpipeError(
            "attack option surrogates: all are the network itself; name those of other methods"
        )
    yield AttackOutput(steps, worst, extras={"surrogate": surrogate})


def _load_surrogate(path: Path, batch: AttackBatch) -> Network:
    """Load the network at `path`.

    Raises IrpipeError if its images have another shape or it has another number of classes.
    """
    checkpoint = read_checkpoint(path)
    dataset = facts(checkpoint.identity(path)["data"])
    if tuple(dataset.shape) != tuple(batch.images.shape[1:]):
        raise IrpipeError(
            f"attack option surrogates: {path} is a network for images of another shape"
        )
    if len(dataset.class_names) != len(batch.network.head):
        raise IrpipeError(
            f"attack option surrogates: {path} is a network of {len(dataset.class_names)} classes; "
            f"the attacked one has {len(batch.network.head)}"
        )
    return load_network(checkpoint, path).move_to(batch.images.device)
