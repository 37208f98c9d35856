"""Transfer: images made against other networks, shown to this one, whose gradients they never saw."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from irpipe.ascent import Case
from irpipe.attacks import Outcome, strong
from irpipe.attacks.parts.margin import margins
from irpipe.data import dataset
from irpipe.errors import IrpipeError
from irpipe.evaluate import load_network
from irpipe.io import read_checkpoint
from irpipe.models import Folded
from irpipe.quantities import Count, Names, Radii


def record(spec: dict[str, Any]) -> dict[str, Any]:
    """`sources_sha256`, each source network's hash, in the order of the sources: reports refuse to mix others."""
    return {"sources_sha256": [read_checkpoint(Path(path)).sha256 for path in spec["sources"]]}


def attack(
    case: Case,
    *,
    eps: Radii,
    sources: Names,  # checkpoints of the other networks; one with this network's weights is passed over
    steps: Count = 100,  # of `strong`, C.4 P7
) -> Iterator[Outcome]:
    """Yield for each image the one of largest margin among those that the sources give, `[E, N, C, H, W]`, at `steps`.

    Each source is attacked by `strong` from one start. The record: `source` `[E, N]`, which one gave the image, counted
    from 1. Raises IrpipeError for a source that cannot be read or is of another data set, and if all are this network.
    """
    made, shape = case.images.repeat(len(eps), 1, 1, 1, 1), (len(eps), len(case.images))
    largest, source = made.new_full(shape, -torch.inf, dtype=torch.float32), case.labels.new_zeros(shape)
    for number, path in enumerate(map(Path, sources), 1):
        checkpoint = read_checkpoint(path)
        if tuple(dataset(checkpoint.identity(path)["data"]["kind"]).SHAPE) != tuple(case.images.shape[1:]):
            raise IrpipeError(f"attack option sources: {path} is a network for images of another shape")
        other = load_network(checkpoint, path).to(case.images.device)
        if torch.equal(other.head, case.network.head):
            continue
        twin = dataclasses.replace(case, network=other, folded=Folded(other, case.folded.shape))
        (outcome,) = strong.attack(twin, eps=eps, steps=[steps], restarts=1)
        found = margins(case.folded, outcome.images.flatten(0, 1), case.labels.repeat(len(eps))).view(shape)
        more = found > largest
        made[more], largest[more], source[more] = outcome.images[more], found[more], number
    if not bool(source.all()):
        raise IrpipeError("attack option sources: all are the network itself; name those of other methods")
    yield Outcome(steps, made, extra={"source": source})
