"""What the kinds that certify maps share: networks, the loop over images, and an ascent."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.certification.map_zonotope import MapNetwork
from irpipe.errors import IrpipeError
from irpipe.option_types import EpsList
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import single_threaded_on_cpu

LAST_STEP = 0.02  # of eps; steps fall from eps to this

# Changes of maps `[K, restarts, u]` to values `[K, restarts]`, of which the largest counts, and to
# the direction in which the maps should change, `[K, restarts, u]`.
MapObjective = Callable[[Tensor], tuple[Tensor, Tensor]]


class MapNetworks(NamedTuple):
    """A network in float64, for proofs, and in float32, for attacks."""

    exact: MapNetwork
    fast: MapNetwork

    @staticmethod
    def of_batch(batch: AttackBatch) -> "MapNetworks":
        """Return the batch's network.

        Raises IrpipeError if it is not of the architecture Small or gives logits that are not
        finite.
        """
        if not bool(batch.network(batch.images.float()).isfinite().all()):
            raise IrpipeError("the network gives logits that are not finite; train it again")
        shape = batch.images.shape[1:]
        fast = MapNetwork(batch.network, shape, torch.float32)
        return MapNetworks(MapNetwork(batch.network, shape), fast)


def certify_images(
    batch: AttackBatch, eps: EpsList, certify: Callable[[int, float], dict[str, Tensor]]
) -> Iterator[AttackOutput]:
    """Yield the output at each position s on the last axis, from all images at all eps.

    `certify(number, eps)` returns `images` `[S, C, H, W]` and extras `[S]` of one image of the
    batch. `number` is its position there.
    """
    rows = []
    with (
        progress(batch.progress_label, len(eps) * len(batch.images)) as advance,
        single_threaded_on_cpu(batch.images.device),
        torch.no_grad(),
    ):
        for bound in eps:
            for number in range(len(batch.images)):
                rows.append(certify(number, bound))
                advance()
    shape = (len(eps), len(batch.images))
    stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    arrays = {name: array.view(*shape, *array.shape[1:]) for name, array in stacked.items()}
    images = arrays.pop("images").to(batch.images.dtype)
    for position in range(images.shape[2]):
        extras = {name: array[:, :, position] for name, array in arrays.items()}
        yield AttackOutput(position, images[:, :, position], extras=extras)


def ascend_maps(
    network: MapNetwork,
    rows: Tensor,
    clean: Tensor,
    eps: float,
    objective: MapObjective,
    restarts: int,
    n_steps: int,
    seed: int,
) -> Tensor:
    """Return images within `eps` of `clean` `[C, H, W]`, `[K * restarts, C, H, W]`.

    `rows` `[K, u, P, c2]` has the maps that each of K objectives sees. An image is the iterate of
    largest value after one random start, from which `n_steps` steps follow the gradient's sign.
    """
    patches = network.patches
    lower, upper = (clean - eps).clamp(min=0), (clean + eps).clamp(max=1)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((len(rows) * restarts, *clean.shape), generator=generator).to(clean)
    images = lower + (upper - lower) * noise
    clean2 = patches.layer2(patches.layer1(clean[None]).relu()).relu()
    flat = rows.flatten(2)
    best_images = images
    best = images.new_full((len(images),), -torch.inf)
    for step in range(n_steps + 1):
        z1 = patches.layer1(images)
        z2 = patches.layer2(z1.relu())
        change = (z2.relu() - clean2).view(len(rows), restarts, -1)
        values, direction = objective(change @ flat.mT)
        is_better = values.flatten() > best
        best = torch.where(is_better, values.flatten(), best)
        best_images = torch.where(is_better.view(-1, 1, 1, 1), images, best_images)
        gradient2 = (direction @ flat).view_as(z2) * (z2 > 0)
        gradient1 = patches.layer2_adjoint(gradient2) * (z1 > 0)
        step_size = eps * max(LAST_STEP, 1 - step / n_steps)
        images = images + step_size * patches.layer1_adjoint(gradient1).sign()
        images = torch.minimum(torch.maximum(images, lower), upper)
    return best_images
