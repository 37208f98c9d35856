"""The unforeseen attacks of Table 5 on CIFAR-10 Small, against the same renderings before the whole network.

So this is what folding the head is worth where each step also draws a picture.
"""

import dataclasses
import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import Line, Setup, in_turns, line
from benchmarks.plain import Plain
from irpipe import config
from irpipe.ascent import Case
from irpipe.data import load
from irpipe.evaluate import load_network
from irpipe.io import read_checkpoint
from irpipe.models import Folded

IMAGES, STEPS = 40, 20
ATTACKS: tuple[dict[str, Any], ...] = (
    {"kind": "gabor"},
    {"kind": "snow"},
    *({"kind": "jpeg", "norm": norm} for norm in ("linf", "l2", "l1")),
    {"kind": "fog"},
)


def pictures(case: Case, entry: dict[str, Any]) -> Tensor:
    """The attacked images of one radius."""
    spec = config.resolved("attacks", entry | {"steps": STEPS, "images": IMAGES, "batch": IMAGES}, "benchmark")
    kind = importlib.import_module(f"irpipe.attacks.{spec['kind']}")
    options = {name: spec[name] for name in kind.attack.__kwdefaults__ if name in spec} | {"eps": kind.radii(spec)[:1]}
    (outcome,) = kind.attack(case, **options)
    return cast(Tensor, outcome.images)


def lines(setup: Setup) -> Iterator[Line]:
    """A line an attack."""
    path = setup.checkpoint("cifar10", "small", "int")
    checkpoint = read_checkpoint(path)
    network = load_network(checkpoint, path)
    test = load(checkpoint.metadata["data"], setup.data, "test")
    index = np.arange(IMAGES)
    folded, rng = Folded(network, (3, 32, 32)), np.random.RandomState(99)
    case = Case(network, folded, test.images[:IMAGES], test.labels[:IMAGES], index, rng)
    whole = dataclasses.replace(case, folded=cast(Folded, Plain(network).requires_grad_(False)))
    for entry in ATTACKS:
        (own, found), (quick, slow) = in_turns(
            setup.rounds, partial(pictures, case, entry), partial(pictures, whole, entry)
        )
        with torch.no_grad():
            same = [network(images.flatten(0, 1).float()).argmax(dim=1) == case.labels for images in (own, found)]
        equal = f"{int((same[0] == same[1]).sum())} of {IMAGES} images"
        name = " ".join(str(value) for value in entry.values())
        yield line(f"{name}, {STEPS} steps, {IMAGES} images", "whole network", quick, slow, equal)
