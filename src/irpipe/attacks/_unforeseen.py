"""What the unforeseen attacks of Table 5 share: targets, draws, the loop (C.6-3, U.0).

docs/unforeseen_attacks.md specifies the attacks (U.0 to U.5) and lists the faults of the released
code. Each attack changes a variable of its own, which a `Parametrisation` turns into images. Here
images are float32 in 0..255, as in the released code.

Source: D. Kang et al., "Testing robustness against unforeseen adversaries" (2019), whose code
advex-uar the released code adapts.
"""

import copy
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import chain_gradient, objective_gradient
from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.attacks._margin_loss import margin_loss, nan_to_inf
from irpipe.attacks._targets import random_targets
from irpipe.option_types import AttackVariant, Iterate, StepRule
from irpipe.runtime.cuda_graph import graphed
from irpipe.runtime.memory import map_fitting_rows
from irpipe.runtime.progress import progress

T = TypeVar("T")
# (number of steps taken before, a scalar tensor that a graph can read; variable; direction that
# raises the objective) -> new variable
Step = Callable[[Tensor, Tensor, Tensor], Tensor]

ADVEX_UAR_STEP = 0.002236  # in units of the variable; advex-uar chose it for a range of [0, 1]


class Parametrisation(NamedTuple):
    """The variable that an attack changes at one eps, and what the attack does with it.

    The variable is float32, `[N, ...]`: one row per image of the batch.
    """

    init: Tensor
    # Turns the variable into images `[N, C, H, W]` in 0..255.
    render: Callable[[Tensor], Tensor]
    step: Step
    # Turns the final variable into extra arrays, each `[N]`.
    extras: Callable[[Tensor], Mapping[str, Tensor]]
    # Turns `init` into the point at which the first gradient is taken.
    first_gradient_at: Callable[[Tensor], Tensor] = torch.clone


@dataclass(frozen=True)
class UnforeseenAttack:
    """An attack on one batch: the options that all kinds share, their random draws, the loop.

    `n_images` and `batch_size` describe the complete sample, of which `batch` is a part.
    `init_seed` seeds what the released code drew from torch's generator, which it never seeded.
    """

    batch: AttackBatch
    variant: AttackVariant
    steps: int
    targeted: bool
    iterate: Iterate
    init_seed: int
    n_images: int
    batch_size: int

    @property
    def as_released(self) -> bool:
        """Whether the faults of the released code are switched on."""
        return self.variant == "released"

    @property
    def pixels(self) -> Tensor:
        """The clean images in 0..255, `[N, C, H, W]`, float32."""
        return (self.batch.images * 255).float()

    def step_size(self, rule: StepRule, eps: float) -> float:
        """Step of Gabor, Snow and Fog, in units of their variable."""
        if rule == "advex_uar":
            return ADVEX_UAR_STEP
        # Released fault (U.0): the step grows with eps, although the variable's range does not.
        return eps / math.sqrt(self.steps)

    def draw_targets(self) -> tuple[Tensor, RandomState]:
        """Draw a wrong class for each image, `[N]`; return also the generator after that draw.

        The targets of the complete sample are drawn at once (U.0).
        """
        rng = copy.deepcopy(self.batch.rng)
        return random_targets(self.batch, rng, self.n_images, self.batch.offset), rng

    def draw_for_batch(self, draw: Callable[[RandomState, int], T]) -> T:
        """Return `draw(rng, N)` for this batch, as numpy's global generator gave it.

        The draws of the targets and of all earlier batches come before it (U.0).
        """
        _, rng = self.draw_targets()
        for _ in range(self.batch.offset // self.batch_size):
            draw(rng, self.batch_size)
        return draw(rng, len(self.batch.labels))

    def draw_per_image(self, draw: Callable[[RandomState], T]) -> list[T]:
        """Return `draw(rng)` for each image, with a generator that no other image uses."""
        return [draw(RandomState([self.init_seed, int(index)])) for index in self.batch.indices]

    def as_tensor(self, arrays: Iterable[np.ndarray]) -> Tensor:
        """Stack arrays, one per image, to a float32 tensor on the device of the images."""
        return torch.from_numpy(np.stack(list(arrays))).float().to(self.batch.images.device)

    def run(self, parametrisations: Sequence[Parametrisation]) -> AttackOutput:
        """Attack with each parametrisation, one per eps.

        The extras `[E, N]` are those of the parametrisation, `target` for targeted attacks, and
        `nan`: the released code's iterate is NaN from some step on. Such an image keeps its last
        finite iterate here.
        """
        images, extras = [], []
        for parametrisation in parametrisations:
            optimise = partial(self._optimise, parametrisation)
            variable, rendered, is_nan = _with_fitting_rows(optimise, self.pixels)
            images.append((rendered / 255).clamp_(0, 1).to(self.batch.images.dtype))
            arrays = {"nan": is_nan, **parametrisation.extras(variable)}
            if self.targeted:
                arrays["target"], _ = self.draw_targets()
            extras.append(arrays)
        # The images are in no l-inf ball, so the evaluator has no distance to check.
        max_distance = torch.full(
            (len(parametrisations), len(self.batch.images)),
            math.inf,
            device=self.batch.images.device,
        )
        stacked = {name: torch.stack([arrays[name] for arrays in extras]) for name in extras[0]}
        return AttackOutput(self.steps, torch.stack(images), max_distance, stacked)

    def _optimise(
        self, parametrisation: Parametrisation, n_at_once: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the chosen variable, its images in 0..255, and `nan` `[N]` as `run` has it.

        The network gets `n_at_once` images at a time. They are rendered all at once, since the
        released fog depends on the batch.
        """
        classes = self.draw_targets()[0] if self.targeted else self.batch.labels
        is_nan = torch.zeros_like(classes, dtype=torch.bool)

        def one_step(
            gradient_at: Callable[[Tensor], Tensor],
            steps_before: Tensor,
            variable: Tensor,
            is_nan: Tensor,
        ) -> list[Tensor]:
            """The next variable. A row that becomes NaN keeps its last finite value."""

            def chain(variable: Tensor) -> tuple[Tensor, Tensor]:
                images = parametrisation.render(gradient_at(variable)) / 255
                gradient = _in_parts(self._loss_gradient, n_at_once, images.detach(), classes)
                return images, gradient

            direction = chain_gradient(chain, variable)
            new = parametrisation.step(steps_before, variable, direction)
            is_lost = ~new.flatten(1).isfinite().all(dim=1)
            return [torch.where(_broadcast_to(is_lost, new), variable, new), is_nan | is_lost]

        def iterates() -> Iterator[Tensor]:
            """Yield the variable after each step."""
            nonlocal is_nan
            variable, count = parametrisation.init, torch.zeros((), device=classes.device)
            take_step: Callable[..., list[Tensor]]
            take_step = partial(one_step, parametrisation.first_gradient_at)
            take_later_step = graphed(partial(one_step, torch.clone), classes.device)
            with progress(self.batch.progress_label, self.steps) as advance:
                for step in range(self.steps):
                    variable, is_nan = take_step(count + step, variable, is_nan)
                    take_step = take_later_step
                    advance()
                    yield variable

        if self.iterate == "last":
            return *_last(parametrisation, iterates()), is_nan
        return *self._worst(parametrisation, n_at_once, iterates()), is_nan

    def _loss_gradient(self, images: Tensor, classes: Tensor) -> Tensor:
        """Gradient of what the attack raises, at some of the batch's images in [0, 1]."""
        # The attack lowers the loss of the target class, or raises that of the true class.
        sign = -1 if self.targeted else 1
        # U.0: the released loss is the mean over the batch; in `fixed`, each image has its own.
        weight = sign / (len(self.batch.labels) if self.as_released else 1)

        def objective(images: Tensor) -> Tensor:
            return weight * F.cross_entropy(self.batch.folded(images), classes, reduction="sum")

        return objective_gradient(objective, images)

    def _worst(
        self, parametrisation: Parametrisation, n_at_once: int, iterates: Iterable[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Each image's variable of largest margin loss, and the images in 0..255.

        The images are those whose loss was computed: to render the chosen rows again would put
        them into another batch, and the released fog depends on that.
        """

        def margin(images: Tensor, labels: Tensor) -> Tensor:
            return nan_to_inf(margin_loss(self.batch.folded(images), labels))

        def worse(
            variable: Tensor, worst_variable: Tensor, worst_images: Tensor, largest: Tensor
        ) -> list[Tensor]:
            """The worst of each image up to `variable`: variable, images, loss."""
            with torch.no_grad():
                images = parametrisation.render(variable)
                loss = _in_parts(margin, n_at_once, images / 255, self.batch.labels)
            is_worse = loss > largest
            return [
                torch.where(_broadcast_to(is_worse, variable), variable, worst_variable),
                torch.where(_broadcast_to(is_worse, images), images, worst_images),
                torch.maximum(loss, largest),
            ]

        keep_worse = graphed(worse, self.batch.labels.device)
        largest = torch.full_like(self.batch.labels, -math.inf, dtype=torch.float32)
        worst_variable, worst_images = parametrisation.init, self.pixels
        for variable in iterates:
            worst_variable, worst_images, largest = keep_worse(
                variable, worst_variable, worst_images, largest
            )
        return worst_variable, worst_images


def _last(parametrisation: Parametrisation, iterates: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The last variable and its images in 0..255."""
    variable = deque(iterates, maxlen=1).pop()
    with torch.no_grad():
        return variable, parametrisation.render(variable)


def _with_fitting_rows(function: Callable[[int], T], like: Tensor) -> T:
    """`function(n)`, which computes all rows, n at a time: as many of `like` as fit into memory."""
    results: list[T] = []

    def compute_all(rows: Tensor) -> list[Tensor]:
        """The first rows that fit stand for all."""
        if not results:
            results.append(function(len(rows)))
        return [rows]

    map_fitting_rows(compute_all, like)
    return results[0]


def _in_parts(function: Callable[..., Tensor], n_at_once: int, *tensors: Tensor) -> Tensor:
    """What `function` gives for the rows of tensors, `n_at_once` of them at a time."""
    parts = zip(*(torch.split(tensor, n_at_once) for tensor in tensors), strict=True)
    return torch.cat([function(*part) for part in parts])


def share_of(is_marked: Tensor, is_counted: Tensor) -> Tensor:
    """Share of the counted entries that are marked, `[N]`; 0 if none is counted.

    Both are boolean, `[N, ...]`, one row per image.
    """
    n_marked = (is_marked & is_counted).flatten(1).sum(dim=1)
    return n_marked / is_counted.flatten(1).sum(dim=1).clamp(min=1)


def _broadcast_to(flags: Tensor, like: Tensor) -> Tensor:
    """View flags `[N]` so that they broadcast against `like` `[N, ...]`."""
    return flags.view(-1, *[1] * (like.dim() - 1))


def saved_examples(
    batch: AttackBatch, adversarial: Tensor, *, save_examples: int
) -> dict[str, Tensor]:
    """Images to store for figures, in bytes: the first `save_examples` of the sample.

    `adversarial_uint8` and `clean_uint8` are `[E, K, C, H, W]`, with K of this batch.
    """
    adversarial = adversarial[:, : max(0, save_examples - batch.offset)]
    clean = batch.images[: adversarial.shape[1]].expand_as(adversarial)
    return {"adversarial_uint8": _as_bytes(adversarial), "clean_uint8": _as_bytes(clean)}


def _as_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1], rounded to 0..255."""
    return (images * 255).round().to(torch.uint8)
