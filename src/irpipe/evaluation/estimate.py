"""How long attacks will take at most, from a few timed passes of the network."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import objective_gradient
from irpipe.datasets import Images
from irpipe.networks.load import LoadedNetwork
from irpipe.outside_code import import_kind
from irpipe.runtime.threads import map_row_chunks

N_TIMED = 3  # passes that are timed, after one that is not
MAX_IMAGES = 200  # of a timed pass; more take proportionally longer


def seconds_per_pass(
    network: LoadedNetwork, test: Images, n_images: int, device: torch.device
) -> float:
    """Seconds of one forward pass for one image: the median of N_TIMED passes with a gradient.

    A pass with a gradient counts thrice. At most `n_images` and MAX_IMAGES images are used.
    """
    count = min(n_images, len(test), MAX_IMAGES)
    images = test.images[:count].to(device).float()
    labels = test.labels[:count].to(device)

    def gradient(points: Tensor, classes: Tensor) -> list[Tensor]:
        def loss(variable: Tensor) -> Tensor:
            return F.cross_entropy(network.folded(variable), classes, reduction="sum")

        return [objective_gradient(loss, points)]

    seconds = []
    for _ in range(1 + N_TIMED):
        start = time.monotonic()
        (total,) = map_row_chunks(gradient, images, labels)
        total.sum().item()  # a GPU is done only then
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds[1:]) / count / 3


def estimate_seconds(
    attacks: Sequence[dict[str, Any]], per_pass: float, n_classes: int
) -> list[float | None]:
    """At most so many seconds does each attack take; None means that its kind does not say.

    `attacks` are resolved options with their eps, `per_pass` is of `seconds_per_pass`.
    """
    estimates: list[float | None] = []
    for options in attacks:
        kind = import_kind("attacks", options["kind"])
        if not hasattr(kind, "n_passes"):
            estimates.append(None)
            continue
        n_eps = sum(eps > 0 for eps in options["eps"])
        passes = kind.n_passes(options, n_eps, n_classes)
        estimates.append(passes * options["images"] * per_pass)
    return estimates
