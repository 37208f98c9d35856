"""Proofs that the largest entries of a map stay the largest ones within eps.

The maps are CAM of the true class (C.3 T1). docs/certify.md explains the proofs.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._map_certificates import MapNetworks, ascend_maps, certify_images
from irpipe.certification.map_zonotope import MapNetwork, map_zonotope
from irpipe.certification.top_k import provably_stay
from irpipe.errors import IrpipeError
from irpipe.interpretability.interpreters import interpret
from irpipe.option_types import Count, EpsList

PROTOCOL = ("C.3 T1",)

# The last axis of a result: the rank of an entry of the clean map. The largest one has rank 0.
AXIS = "rank"


def attack(
    batch: AttackBatch,
    *,
    eps: EpsList,
    # C.6-2: AAI lowers the 8 largest of the 49 entries, too.
    top_k: Count = 8,
    # Of the ascent: random starts for each entry, and steps from each of them.
    restarts: Count = 16,
    steps: Count = 20,
) -> Iterator[AttackOutput]:
    """Yield, for each of the `top_k` largest entries, the images that push it down furthest.

    The images are `[E, N, C, H, W]`. An entry stays if it is one of the `top_k` largest entries of
    the image's map, too.

    Extras, `[E, N]`:
    - `entry`: the entry's index in the flattened map;
    - `provably_stays`: whether it stays in all images within eps, proven in float64;
    - `attacked_stays`: whether it stays in the image.

    Raises IrpipeError if the network is not of the architecture Small or the maps have at most
    `top_k` entries, and RuntimeError if an image contradicts a proof.
    """
    networks = MapNetworks.of_batch(batch)
    n_entries = networks.exact.rows.shape[1]
    if top_k >= n_entries:
        raise IrpipeError(
            f"attack option top_k: {top_k}, but the maps have {n_entries} entries; "
            f"choose at most {n_entries - 1}"
        )
    yield from certify_images(
        batch, eps, partial(_certify_image, batch, networks, top_k, restarts, steps)
    )


def _certify_image(
    batch: AttackBatch,
    networks: MapNetworks,
    top_k: int,
    restarts: int,
    steps: int,
    number: int,
    eps: float,
) -> dict[str, Tensor]:
    """The extras of one image, `[top_k]`, and its images `[top_k, C, H, W]`."""
    label = int(batch.labels[number])
    clean = batch.images[number].float()
    clean_map = _maps(networks.exact, clean[None], label)[0]
    entries = clean_map.topk(top_k).indices
    rows = networks.fast.rows[[label]].expand(top_k, -1, -1, -1)
    objective = partial(_push_down, clean_map.float(), entries)
    seed = int(batch.indices[number])
    images = ascend_maps(networks.fast, rows, clean, eps, objective, restarts, steps, seed)
    maps = _maps(networks.exact, images, label)
    leads, _ = leads_and_rivals(maps.expand(top_k, -1, -1), entries)
    lead, best = leads.min(dim=1)
    zonotope = map_zonotope(networks.exact, clean, eps)
    stays = provably_stay(networks.exact, zonotope, clean_map, label, entries)
    is_contradicted = stays & (lead <= 0)
    if bool(is_contradicted.any()):
        entry = int(entries[is_contradicted.nonzero()[0]])
        raise RuntimeError(
            f"certify_top_k: test image {batch.indices[number]} within {eps:g}: entry {entry} "
            f"does not stay among the {top_k} largest ones, which was proven"
        )
    return {
        "images": images[best],
        "entry": entries,
        "provably_stays": stays,
        "attacked_stays": lead > 0,
    }


def leads_and_rivals(maps: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much entries lead over their rivals, and the rivals, `[k, n]`.

    Row i has the entry `entries[i]` in n maps, `maps[i]` `[n, u]`. Its rival is the k-th largest
    of the other entries. So it is one of the k largest entries if it leads.
    """
    index = entries[:, None, None].expand(-1, maps.shape[1], 1)
    others = maps.scatter(2, index, -torch.inf).topk(len(entries), dim=2)
    return maps.gather(2, index)[..., 0] - others.values[..., -1], others.indices[..., -1]


def _push_down(clean_map: Tensor, entries: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
    """How far each entry falls behind its rival, `[k, n]`, for `changes` `[k, n, u]`.

    The second value is the gradient.
    """
    leads, rivals = leads_and_rivals(clean_map + changes, entries)
    gradient = torch.zeros_like(changes).scatter_(2, rivals[..., None], 1.0)
    index = entries[:, None, None].expand(-1, changes.shape[1], 1)
    return -leads, gradient.scatter_(2, index, -1.0)


def _maps(network: MapNetwork, images: Tensor, label: int) -> Tensor:
    """Maps of the class `label`, `[B, u]`, from the network itself."""
    classes = torch.full((len(images), 1), label, device=images.device)
    images = images.double()
    return interpret(network.network, images, "cam", classes, variant="original").flatten(1)
