"""Proofs of how much maps may change within eps, and of robustness by Proposition 1.

The maps are CAM with the factor 1/u (C.3 T1). docs/certify.md explains the proofs.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._map_certificates import MapNetworks, ascend_maps, certify_images
from irpipe.certification.discrepancy_bounds import (
    DiscrepancyBounds,
    class_pairs,
    discrepancy_bounds,
)
from irpipe.certification.map_zonotope import map_zonotope
from irpipe.interpretability.interpreters import interpret
from irpipe.option_types import Count, EpsList

PROTOCOL = ("C.3 T1", "C.6-4")

# The last axis of a result: the class c whose map counts besides that of the true class.
AXIS = "class"


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # Of the ascent: random starts for each class, and steps from each of them.
    restarts: Count = 16,
    steps: Count = 20,
) -> Iterator[AttackOutput]:
    """Yield, for each class c, the images `[E, N, C, H, W]` of largest l1 discrepancy found.

    This is D(x, x') of paper eq (4), for the true class t and t' = c. With c = t, it is the
    1-class discrepancy.

    Extras, `[E, N]`, all computed in float64:
    - `target`: the class c;
    - `certified_discrepancy`: proven upper bound of D within eps;
    - `attacked_discrepancy`: D of the image;
    - `half_margin`: (f_t(x) - f_c(x)) / 2, which D must reach if c is predicted (paper eq (5));
    - `margin_lower_bound`: proven lower bound of f_t - f_c within eps; 0 for c = t.

    Raises IrpipeError if the network is not of the architecture Small, and RuntimeError if an
    image contradicts a bound.
    """
    networks = MapNetworks.of_batch(batch)
    yield from certify_images(batch, eps, partial(_certify_image, batch, networks, restarts, steps))


def _certify_image(
    batch: AttackBatch,
    networks: MapNetworks,
    restarts: int,
    steps: int,
    number: int,
    eps: float,
) -> dict[str, Tensor]:
    """The extras of one image, `[classes]`, and its images `[classes, C, H, W]`."""
    label = int(batch.labels[number])
    clean = batch.images[number].float()
    rows = class_pairs(networks.fast.rows, label)
    seed = int(batch.indices[number])
    images = ascend_maps(networks.fast, rows, clean, eps, _l1_norm, restarts, steps, seed)
    # From here on, the network itself computes the maps.
    points = torch.cat([clean[None], images]).double()
    maps = interpret(networks.exact.network, points, "cam", variant="original").flatten(2)
    logits = maps.sum(dim=2)
    pairs = class_pairs((maps[1:] - maps[0]).permute(1, 2, 0), label)
    attacked, best = pairs.abs().sum(dim=1).max(dim=1)
    zonotope = map_zonotope(networks.exact, clean, eps)
    bounds = discrepancy_bounds(networks.exact, zonotope, logits[0], label)
    margins = logits[:, [label]] - logits
    location = f"test image {batch.indices[number]} within {eps:g}"
    _refuse_contradiction(bounds, attacked, margins[1:].amin(dim=0), location)
    return {
        "images": images[best],
        "target": torch.arange(len(logits[0]), device=images.device),
        "certified_discrepancy": bounds.discrepancy,
        "attacked_discrepancy": attacked,
        "half_margin": margins[0] / 2,
        "margin_lower_bound": bounds.margin,
    }


def _l1_norm(changes: Tensor) -> tuple[Tensor, Tensor]:
    """The l1 norm of changes `[..., u]`, and its gradient."""
    return changes.abs().sum(dim=-1), changes.sign()


def _refuse_contradiction(
    bounds: DiscrepancyBounds, discrepancy: Tensor, margin: Tensor, location: str
) -> None:
    """Raise RuntimeError if an image's discrepancy or margin, `[classes]`, exceeds its bound."""
    is_contradicted = (discrepancy > bounds.discrepancy) | (margin < bounds.margin)
    if not bool(is_contradicted.any()):
        return
    target = int(is_contradicted.nonzero()[0])
    raise RuntimeError(
        f"certify_maps: {location}, class {target}: found discrepancy "
        f"{float(discrepancy[target]):.9g}, which is proven to be at most "
        f"{float(bounds.discrepancy[target]):.9g}, and margin {float(margin[target]):.9g}, "
        f"which is proven to be at least {float(bounds.margin[target]):.9g}"
    )
