"""Interpretability sneaking attack: fool the classifier and keep its maps (paper eq (6), protocol C.5)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from irpipe.ascent import Case, ascend
from irpipe.attacks import Outcome
from irpipe.attacks.parts.margin import lead
from irpipe.attacks.parts.targets import targets
from irpipe.maps.discrepancy import Specification, distance, normalised, specifications
from irpipe.maps.interpret import interpret
from irpipe.models import Folded, Network
from irpipe.progress import progress
from irpipe.quantities import ClassSets, Count, Factors, Index, Interpreter, Norms, NotNegative, Positive, Variant

AXIS = "specification"  # of the discrepancy: its place in `maps.discrepancy.specifications`
FIRST_RADIUS, FIRST_WEIGHT = 0.05, 5e-5  # where the searches begin, C.5-4 and C.5-5
PATIENCE = 30  # rounds at most of a search to a tolerance
MEMORY = 2**29  # bytes that one gradient may hold
Loss = Callable[[Tensor], Tensor]  # of images [M, C, H, W], float32; one value each


def attack(
    case: Case,
    *,
    interpreter: Interpreter = "cam",
    variant: Variant = "code",  # of the interpreter, C.3 T1, T7, T13
    points: Count = 100,  # of integrated gradients, C.3 T7
    norms: Norms = ["l1", "l2"],  # noqa: B006 (read, never changed)
    classes: ClassSets = ["one", "two", "all"],  # noqa: B006
    penalties: Factors = [1.1, 1.2, 1.4, 1.6],  # noqa: B006  # radii over the smallest one: these give Table 1, C.5 I9
    kappa: NotNegative = 0.1,  # margin beyond which nothing is gained, C.5-2
    steps: Count = 10,  # C.5-3
    step_size: Positive = 0.2,  # of the radius, C.5-3
    slope: Positive | None = 1000,  # steps are clip(slope * gradient / reference, -1, 1); none: its sign, C.5 I7
    reference: Count = 100,  # the number of images that the released code divides by, C.5 I7
    rounds: Count = 10,  # of either search, C.5 I1
    tolerance: Positive | None = None,  # instead: search gamma until its bracket is this narrow, C.5 I1
    root: bool = False,  # the l2 norm in the objective, not its square, C.5 I5
    images: Count = 100,  # C.5 I9
    seed: Index = 99,  # C.5 I9
    batch: Count = 100,
) -> Iterator[Outcome]:
    """Yield, for each specification of the discrepancy, images at radii of each image's own, `[E, N, C, H, W]`.

    The first point is the plain targeted attack at the smallest radius where it succeeds; at each penalty times that
    radius follows the attack with the largest weight gamma of the discrepancy (the paper's 1/lambda) that still
    succeeds. The record, `[E, N]`: `target`; `smallest`, that radius; `found`, whether there is one (else it is 1);
    `gamma`; `capped`, whether no gamma tried was too large (C.5 I1); and what `_measured` finds by the plain network.
    """
    target = targets(case, case.rng, len(case.labels))  # successive batches draw as one would, C.5-1
    scale = None if slope is None else slope / reference
    descend = partial(_descend, steps=steps, step_size=step_size, slope=scale)
    view = _View(interpreter, variant, points)
    search = _Search(case, target, view, descend, kappa, rounds, tolerance, root)
    smallest, plain = search.smallest()
    radii = torch.tensor(penalties, dtype=smallest.dtype, device=smallest.device)[:, None] * smallest
    bound = torch.cat([smallest[None], radii])
    shared = {"target": target, "smallest": smallest, "found": smallest < 1}
    for number, specification in enumerate(specifications(interpreter, norms, classes)):
        sneaky, gamma, capped = search.sneak(radii, specification)
        moved = torch.cat([plain[None], sneaky])
        extra = {name: value.expand(len(moved), -1) for name, value in shared.items()}
        extra |= {"gamma": _behind_plain(gamma), "capped": _behind_plain(capped)}
        yield Outcome(number, moved, bound, extra | _measured(case, moved, target, view, specification))


@dataclass(frozen=True)
class _View:
    """An interpreter with its options (`maps.interpret`)."""

    kind: Interpreter
    variant: Variant
    points: int

    def maps(self, network: Network | Folded, images: Tensor, columns: Tensor) -> Tensor:
        """Maps `[M, K, ...]` of images in any precision for the classes `columns` `[M, K]`."""
        return interpret(network, images.float(), self.kind, columns, variant=self.variant, points=self.points)

    def logits_and_maps(self, folded: Folded, images: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Both; for the released code's CAM from one pass, as the logits are the maps' mean."""
        if (self.kind, self.variant) != ("cam", "code"):
            return folded(images), self.maps(folded, images, columns)
        maps = folded.maps(images)
        return maps.mean(dim=(2, 3)), torch.take_along_dim(maps, columns[:, :, None, None], dim=1)

    def discrepancy(self, maps: Tensor, clean: Tensor, norm: str, root: bool = False) -> Tensor:
        """Paper eq (3), `[M]`: the mean over classes; over the channels of the representation the sum (C.5-2)."""
        change = distance(maps, clean, norm, root)
        return change.sum(dim=1) if self.kind == "repr" else change.mean(dim=1)


@dataclass(frozen=True)
class _Search:
    """The two searches, over items: pairs of an image, named by its row `[M]` in the batch, and a radius `[M]`."""

    case: Case
    target: Tensor
    view: _View
    descend: Callable[[Tensor, Tensor, Loss], Tensor]
    kappa: float
    rounds: int
    tolerance: float | None
    root: bool

    def smallest(self) -> tuple[Tensor, Tensor]:
        """The smallest radius at which the plain attack succeeds, `[N]`, 1 if none does, and its images (C.5-4)."""

        def find(rows: Tensor) -> tuple[Tensor, Tensor]:
            """Of a chunk's rows."""
            start, loss = self._start(rows), self._plain(rows)
            first = torch.full(rows.shape, FIRST_RADIUS, dtype=torch.float64, device=rows.device)
            _, radius = bisect(
                lambda radius: ~self._fools(self.descend(start, radius, loss), rows), first, 1, self.rounds
            )
            return radius, self.descend(start, radius, loss)

        rows = torch.arange(len(self.target), device=self.target.device)
        radius, images = self._in_chunks("smallest radius", find, self._plain(rows[:1]), rows)
        return radius, images

    def sneak(self, radii: Tensor, specification: Specification) -> tuple[Tensor, Tensor, Tensor]:
        """Images `[P, N, C, H, W]` at radii `[P, N]`, their gamma `[P, N]`, and whether it was capped (C.5-5)."""
        ceiling = 1.0 if self.tolerance is None else math.inf

        def find(rows: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Of a chunk's rows, each at its radius."""
            start, loss = self._start(rows), self._sneaky(rows, specification)

            def run(gamma: Tensor) -> Tensor:
                return self.descend(start, radius, loss(gamma))

            first = torch.full_like(radius, FIRST_WEIGHT)
            gamma, failed = bisect(
                lambda gamma: self._fools(run(gamma), rows), first, ceiling, self.rounds, self.tolerance
            )
            return run(gamma), gamma, failed == ceiling

        rows = torch.arange(radii.shape[1], device=radii.device).repeat(len(radii))
        probe = self._sneaky(rows[:1], specification)(radii.new_zeros(1))
        done = self._in_chunks(" ".join(specification), find, probe, rows, radii.flatten())
        images, gamma, capped = (part.view(*radii.shape, *part.shape[1:]) for part in done)
        return images, gamma, capped

    def _start(self, rows: Tensor) -> Tensor:
        return self.case.images[rows].double()  # as the released code's iterates are, C.2

    def _fools(self, moved: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            return lead(self.case.folded(moved.float()), self.target[rows]) < 0

    def _plain(self, rows: Tensor) -> Loss:
        return lambda moved: lead(self.case.folded(moved), self.target[rows], self.kappa)

    def _sneaky(self, rows: Tensor, specification: Specification) -> Callable[[Tensor], Loss]:
        """The loss of C.5-2 for each gamma `[M]`."""
        target = self.target[rows]
        columns = _columns(specification.classes, self.case.labels[rows], target, len(self.case.network.head))

        def outputs(images: Tensor) -> tuple[Tensor, Tensor]:
            return self.view.logits_and_maps(self.case.folded, images, columns)

        with torch.no_grad():
            _, clean = outputs(self._start(rows).float())  # of this batch: exactly what the first step sees

        def loss(moved: Tensor, gamma: Tensor) -> Tensor:
            logits, maps = outputs(moved)
            change = self.view.discrepancy(maps, clean, specification.norm, self.root)
            return lead(logits, target, self.kappa) + gamma.float() * change

        return lambda gamma: partial(loss, gamma=gamma)

    def _in_chunks(
        self, what: str, find: Callable[..., tuple[Tensor, ...]], loss: Loss, *items: Tensor
    ) -> list[Tensor]:
        """`find` of all items, as many at a time as memory allows; `loss` is that of one item."""
        size = max(1, MEMORY // _held(loss, self._start(items[0][:1]).float()))
        starts, done = range(0, len(items[0]), size), []
        with progress(f"{self.case.label}, {what}" if self.case.label else "", len(starts)) as advance:
            for start in starts:
                done.append(find(*(item[start : start + size] for item in items)))
                advance()
        return [torch.cat(parts) for parts in zip(*done, strict=True)]


def _held(loss: Loss, image: Tensor) -> int:
    """Bytes that the gradient of a loss keeps for one image."""
    total = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.nbytes
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(image.requires_grad_())
    return total


def bisect(
    rises: Callable[[Tensor], Tensor], first: Tensor, ceiling: float, rounds: int, tolerance: float | None = None
) -> tuple[Tensor, Tensor]:
    """Brackets `(low, high)` `[M]` of where `rises` turns false, from (0, `ceiling`) and the value `first`.

    A round tries each value: where it rises, the bracket's low end comes up to it, and the next is twice it or the
    middle, whichever is less; else the high end comes down to it, and the next is the middle (C.5-4, C.5-5). With a
    tolerance, a bracket rests once high - low <= tolerance * high, and the search ends when all do (C.5 I1).
    """
    value, low, high = first, torch.zeros_like(first), torch.full_like(first, ceiling)
    for _ in range(rounds if tolerance is None else PATIENCE):
        wide = torch.ones_like(low, dtype=torch.bool)
        if tolerance is not None:
            wide = high.isinf() | (high - low > tolerance * high)
            if not bool(wide.any()):
                break
        up = rises(value)
        low, high = torch.where(wide & up, value, low), torch.where(wide & ~up, value, high)
        middle = (low + high) / 2
        value = torch.where(up, torch.minimum(2 * value, middle), middle)
    return low, high


def _columns(classes: str, labels: Tensor, target: Tensor, count: int) -> Tensor:
    """The classes whose maps count, `[M, K]`: the true one; it and the target; all (paper eq (3) and (4))."""
    if classes == "all":
        return torch.arange(count, device=labels.device).expand(len(labels), -1)
    return torch.stack([labels] if classes == "one" else [labels, target], dim=1)


def _descend(
    images: Tensor, radius: Tensor, loss: Loss, *, steps: int, step_size: float, slope: float | None
) -> Tensor:
    """The last of `steps` steps down the loss, from the images, each within its radius `[M]` (C.5-3)."""
    reach = radius[:, None, None, None]
    lower, upper = (images - reach).clamp(min=0), (images + reach).clamp(max=1)

    def update(point: Tensor, gradient: Tensor) -> Tensor:
        direction = gradient.sign() if slope is None else (slope * gradient).clamp(-1, 1)
        return torch.clamp(point + step_size * reach * direction, lower, upper)

    *_, last = ascend(images, lambda moved: -loss(moved).sum(), update, steps)
    return last


def _behind_plain(values: Tensor) -> Tensor:
    """Values at the penalties, `[E - 1, N]`, behind a 0 for the plain attack."""
    return torch.cat([torch.zeros_like(values[:1]), values])


def _measured(
    case: Case, moved: Tensor, target: Tensor, view: _View, specification: Specification
) -> dict[str, Tensor]:
    """Discrepancies of images `[E, N, C, H, W]` in the attack's own specification, by the plain network, `[E, N]`.

    `discrepancy` as in the objective, squared for l2; `normalised`, the contribution to NDS, and `degenerate`, the
    number of maps that it leaves out (C.5 I15); `valid`, whether it counts: the target leads the true class, did not
    on the clean image (C.5-6), and some map is not degenerate.
    """
    columns = _columns(specification.classes, case.labels, target, len(case.network.head))

    def outputs(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = case.network(images.float())
        ahead = (logits.gather(1, target[:, None]) - logits.gather(1, case.labels[:, None]))[:, 0]
        return ahead, view.maps(case.network, images, columns)

    found: dict[str, list[Tensor]] = {"discrepancy": [], "normalised": [], "degenerate": [], "valid": []}
    with torch.no_grad():
        before, clean = outputs(case.images)
        for images in moved:
            ahead, maps = outputs(images)
            score, constant = normalised(maps, clean, specification.norm)
            found["discrepancy"].append(view.discrepancy(maps, clean, specification.norm))
            found["normalised"].append(score)
            found["degenerate"].append(constant)
            found["valid"].append((ahead >= 0) & (before <= 0) & score.isfinite())
    return {name: torch.stack(parts) for name, parts in found.items()}
