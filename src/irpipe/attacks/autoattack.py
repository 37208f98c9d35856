"""AutoAttack (Croce and Hein, ICML 2020), standard version, l-infinity: four attacks, each on what the last left right.

The reference (github.com/fra31/auto-attack, autoattack/autoattack.py) is in no package registry, so the four are
torchattacks' ports, under the reference's settings: one start, 100 steps and rho .75 for APGD on the cross-entropy; the
same towards each of the 9 other classes by the targeted DLR loss; FAB likewise (alpha_max .1, eta 1.05, beta .9); 5,000
queries of Square (p_init .8), whose schedule is not rescaled to them. torchattacks' own ensemble takes 10 steps and
rescales. What remains different: each attack draws from a seed of its own, Square's draws for an image do not depend on
which others are left, FAB goes on to the nearest of all classes, data sets of other than 10 classes have all others as
targets, and the targeted loss needs 4 classes. The optional dependencies `stress` install torchattacks.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from irpipe.ascent import Case, in_parts
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import margins
from irpipe.errors import IrpipeError
from irpipe.models import Folded
from irpipe.quantities import Components, Count, Radii

Component = Callable[[float, Tensor], Tensor]  # images for a radius and the numbers of those to attack
STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
# what Square has found on a network, by all that decides it
_SQUARES: "WeakKeyDictionary[Folded, dict[Any, _Found]]" = WeakKeyDictionary()


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
    made, beaten, fab = case.images.repeat(len(eps), 1, 1, 1, 1), [], _Fab(case, steps)
    # a component's draws do not depend on which others there are
    drawn = case.rng.randint(2**31, size=(len(eps), len(STANDARD))).tolist()
    for row, radius, seeds in zip(made, eps, drawn, strict=True):
        lower, upper = (case.images - radius).clamp(min=0), (case.images + radius).clamp(max=1)
        by = torch.zeros_like(case.labels)
        for number, component in enumerate(components, 1):
            left = torch.nonzero(margins(case.folded, row, case.labels) <= 0)[:, 0]
            if len(left):
                seed = seeds[STANDARD.index(component)]
                own = fab if component == "fab-t" else _seeded(case, component, steps, queries, seed)
                found = own(radius, left).to(row.dtype).clamp(lower[left], upper[left])
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


def _library() -> Any:
    try:
        import torchattacks
    except ImportError as error:
        raise IrpipeError("attack kind autoattack: torchattacks is missing; pip install 'irpipe[stress]'") from error
    return torchattacks


def _seeded(case: Case, component: str, steps: int, queries: int, seed: int) -> Component:
    """One that draws, from the generators that `seed` gives; torch's own stay as they are."""
    library, module = _library(), _Module(case.folded)

    def run(radius: float, left: Tensor) -> Tensor:
        """What the component makes of the images."""
        shared = {"norm": "Linf", "eps": radius, "seed": seed, "n_restarts": 1}
        chosen = {
            "apgd-ce": lambda: library.APGD(module, steps=steps, loss="ce", **shared),
            "apgd-t": lambda: library.APGDT(module, steps=steps, n_classes=len(case.network.head), **shared),
            "square": lambda: _square(case, left)(module, n_queries=queries, resc_schedule=False, **shared),
        }[component]()
        with torch.random.fork_rng(devices=[left.device] if left.is_cuda else []):
            found: Tensor = chosen(case.images[left].float(), case.labels[left])
        return found.detach()

    def once(radius: float, left: Tensor) -> Tensor:
        """As `run`, of each image that this network's attacks have not asked for before."""
        key = radius, queries, seed, case.index.tobytes()
        found = _SQUARES.setdefault(case.folded, {}).setdefault(key, _Found(case))
        return found(left, lambda new: run(radius, new))

    return once if component == "square" else run


class _Found:
    """What a search finds for a case's images, `[N, C, H, W]`, each searched for once."""

    def __init__(self, case: Case) -> None:
        self.images = case.images.to(torch.float32, copy=True)
        self.known = torch.zeros_like(case.labels, dtype=torch.bool)

    def __call__(self, left: Tensor, search: Callable[[Tensor], Tensor]) -> Tensor:
        """The images found for those numbered `left`; `search` is asked for the new among them."""
        new = left[~self.known[left]]
        if len(new):
            self.images[new], self.known[new] = search(new), True
        return self.images[left]


def _square(case: Case, left: Tensor) -> Any:
    """torchattacks' Square, beginning with stripes that are drawn for all images of the case, `left` or not."""

    class Square(_library().Square):  # type: ignore[misc]
        def random_choice(self, shape: list[int]) -> Tensor:
            stripes = len(shape) == 4
            drawn: Tensor = super().random_choice([len(case.images), *shape[1:]] if stripes else shape)
            return drawn[left] if stripes else drawn

    return Square


class _Fab:
    """FAB towards each other class. Its steps do not know the radius, so an image's nearest is found once for all."""

    def __init__(self, case: Case, steps: int) -> None:
        self.case, self.steps, self.nearest = case, steps, _Found(case)

    def __call__(self, radius: float, left: Tensor) -> Tensor:
        images, labels = self.case.images.float(), self.case.labels
        nearest = self.nearest(left, lambda new: in_parts(self._search, images[new], labels[new])[0])
        near = (nearest - images[left]).abs().flatten(1).amax(dim=1) <= radius
        return torch.where(near.view(-1, 1, 1, 1), nearest, images[left])

    def _search(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """The nearest wrong image that the search towards any class comes to, else the image itself."""
        classes = len(self.case.network.head)
        fab = _library().FAB(_Module(self.case.folded), norm="Linf", steps=self.steps, multi_targeted=True)
        nearest, least = images.clone(), torch.full_like(labels, math.inf, dtype=torch.float32)
        for rank in range(2, classes + 1):
            fab.target_class = rank
            found = fab.attack_single_run_targeted(images, labels)
            far = (found - images).abs().flatten(1).amax(dim=1)
            closer = (far > 0) & (far < least)  # where it finds none, it gives the image back
            nearest[closer], least[closer] = found[closer], far[closer]
        return [nearest]
