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
MAX_ROWS = 200  # of a timed pass; more take proportionally longer


def seconds_per_pass(
    network: LoadedNetwork, test: Images, attacks: Sequence[dict[str, Any]], device: torch.device
) -> float:
    """Seconds of one forward pass for one image: the median of N_TIMED passes with a gradient.

    A pass with a gradient counts thrice. It has as many rows as the largest of the `attacks`, which
    pass the images of all eps together, but at most MAX_ROWS: a row of a larger batch takes less.
    """
    n_images = min(max(each["images"] for each in attacks), len(test))
    n_rows: int = min(max(each["images"] * _n_eps(each) for each in attacks), MAX_ROWS)
    rows = torch.arange(n_rows) % n_images
    images = test.images[rows].to(device).float()
    labels = test.labels[rows].to(device)

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
    return statistics.median(seconds[1:]) / n_rows / 3


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
        passes = kind.n_passes(options, _n_eps(options), n_classes)
        estimates.append(passes * options["images"] * per_pass)
    return estimates


def _n_eps(options: dict[str, Any]) -> int:
    """How many eps an attack has that change its images; 1 if it chooses eps itself."""
    return sum(eps > 0 for eps in options["eps"]) if "eps" in options else 1
