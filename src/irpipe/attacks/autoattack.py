"""AutoAttack (Croce and Hein, ICML 2020), standard version, l-infinity: four attacks, each on what the last left right.

The reference (github.com/fra31/auto-attack, autoattack/autoattack.py) is in no package registry, so the four are
torchattacks' ports, under the reference's settings: one start, 100 steps and rho .75 for APGD on the cross-entropy; the
same towards each of the 9 other classes by the targeted DLR loss; FAB likewise (alpha_max .1, eta 1.05, beta .9); 5,000
queries of Square (p_init .8), whose schedule is not rescaled to them. torchattacks' own ensemble takes 10 steps and
rescales. What remains different: each attack draws from a seed of its own, data sets of other than 10 classes have all
others as targets, and the targeted loss needs 4 classes. The optional dependencies `stress` install torchattacks.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import margins
from irpipe.errors import IrpipeError
from irpipe.models import Folded
from irpipe.quantities import Components, Count, Radii


def attack(
    case: Case,
    *,
    eps: Radii,
    components: Components = ["apgd-ce", "apgd-t", "fab-t", "square"],  # noqa: B006 (read, never changed); the standard
    steps: Count = 100,  # of the first three, as in the reference
    queries: Count = 5000,  # of Square, as in the reference
) -> Iterator[Outcome]:
    """Yield the images that made the network wrong, `[E, N, C, H, W]`, else the clean ones, at `steps`.

    One start each, all wrong classes as targets. Images that are wrong from the start stay as they are. The record:
    `beaten` `[E, N]`, which of `components`, counted from 1, made an image wrong; 0: none. Raises IrpipeError where
    torchattacks is missing.
    """
    made, beaten = case.images.repeat(len(eps), 1, 1, 1, 1), []
    for row, radius in zip(made, eps, strict=True):
        lower, upper = (case.images - radius).clamp(min=0), (case.images + radius).clamp(max=1)
        by = torch.zeros_like(case.labels)
        for number, component in enumerate(components, 1):
            left = torch.nonzero(margins(case.folded, row, case.labels) <= 0)[:, 0]
            if len(left):
                drawn = _seeded(case, component, radius, steps, queries)(case.images[left].float(), case.labels[left])
                found = drawn.to(row.dtype).clamp(lower[left], upper[left])
                won = margins(case.folded, found, case.labels[left]) > 0
                row[left[won]], by[left[won]] = found[won], number
        beaten.append(by)
    yield Outcome(steps, made, extra={"beaten": torch.stack(beaten)})


class _Module(nn.Module):
    """A folded network as torchattacks wants it."""

    def __init__(self, folded: Folded) -> None:
        super().__init__()
        self.network, self.folded = folded.network, folded

    def forward(self, images: Tensor) -> Tensor:
        return self.folded(images)


def _seeded(case: Case, component: str, radius: float, steps: int, queries: int) -> Callable[[Tensor, Tensor], Tensor]:
    """One of the four, drawing from a seed that the case's generator gives; torch's own generators stay as they are."""
    try:
        import torchattacks
    except ImportError as error:
        raise IrpipeError("attack kind autoattack: torchattacks is missing; pip install 'irpipe[stress]'") from error
    module, seed = _Module(case.folded), int(case.rng.randint(2**31))
    shared = {"norm": "Linf", "eps": radius, "seed": seed, "n_restarts": 1}
    targeted = shared | {"steps": steps, "n_classes": len(case.network.head)}
    chosen = {
        "apgd-ce": lambda: torchattacks.APGD(module, steps=steps, loss="ce", **shared),
        "apgd-t": lambda: torchattacks.APGDT(module, **targeted),
        "fab-t": lambda: torchattacks.FAB(module, multi_targeted=True, **targeted),
        "square": lambda: torchattacks.Square(module, n_queries=queries, resc_schedule=False, **shared),
    }[component]()

    def run(images: Tensor, labels: Tensor) -> Tensor:
        where = [images.device] if images.is_cuda else []
        with torch.random.fork_rng(devices=where):
            found: Tensor = chosen(images, labels)
        return found.detach()

    return run
