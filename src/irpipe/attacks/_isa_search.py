"""The two binary searches of ISA: the smallest eps that succeeds, then the largest gamma (C.5)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from irpipe.ascent.gradient_ascent import objective_gradient
from irpipe.attacks import AttackBatch
from irpipe.attacks._isa_steps import Loss, binary_search
from irpipe.attacks._margin_loss import margin_loss
from irpipe.interpretability.discrepancy import DiscrepancyMeasure, distance
from irpipe.interpretability.interpreters import interpret
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Network
from irpipe.option_types import IgRule, Interpreter, InterpreterVariant
from irpipe.runtime.cuda_graph import graphed
from irpipe.runtime.memory import gradient_bytes, map_fitting_rows
from irpipe.runtime.progress import progress

INITIAL_EPS = 0.05  # C.5-4: the first eps that the search tries
INITIAL_GAMMA = 5e-5  # C.5-5: the first gamma that the search tries


@dataclass(frozen=True)
class MapInterpreter:
    """An interpreter with its options (`interpretability.interpreters.interpret`)."""

    kind: Interpreter
    variant: InterpreterVariant
    ig_steps: int
    ig_rule: IgRule

    def maps(self, network: Network | FoldedNetwork, images: Tensor, classes: Tensor) -> Tensor:
        """Maps `[M, K, ...]` of images in any precision for the `classes` `[M, K]`."""
        return interpret(
            network,
            images.float(),
            self.kind,
            classes,
            variant=self.variant,
            ig_steps=self.ig_steps,
            ig_rule=self.ig_rule,
        )

    def logits_and_maps(
        self, folded: FoldedNetwork, images: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits `[M, C]` and maps `[M, K, ...]`, from one forward pass where that is possible."""
        if self.kind not in ("cam", "gradcampp", "repr") or self.variant != "released":
            return folded(images), self.maps(folded, images, classes)
        hidden = folded.backbone(images)
        if self.kind == "repr":
            return folded.logits_of(hidden), folded.network.features_of(hidden)
        all_maps = folded.maps_of(hidden, positive_head=self.kind == "gradcampp")
        maps = torch.take_along_dim(all_maps, classes[:, :, None, None], dim=1)
        # A logit is the mean of its class's CAM without the factor 1/u (C.3 T1).
        logits = all_maps.mean(dim=(2, 3)) if self.kind == "cam" else folded.logits_of(hidden)
        return logits, maps

    def discrepancy(
        self, maps: Tensor, clean_maps: Tensor, norm: str, squared_l2: bool = True
    ) -> Tensor:
        """Discrepancy of paper eq (3), `[M]`.

        C.5-2: it is the mean over the classes, but the sum over the channels of `repr`.
        """
        per_map = distance(maps, clean_maps, norm, squared_l2)
        return per_map.sum(dim=1) if self.kind == "repr" else per_map.mean(dim=1)


@dataclass(frozen=True)
class IsaSearch:
    """The two searches, for all images of a batch at once.

    Both work on rows `[M]`: indices of images in the batch. An image has a row for each eps.
    """

    batch: AttackBatch
    target: Tensor  # target classes, [N]
    interpreter: MapInterpreter
    # descend(images, first_gradient, eps, loss) returns the adversarial images of one attack.
    descend: Callable[[Tensor, Tensor, Tensor, Loss], Tensor]
    kappa: float
    binary_search_steps: int
    search_rtol: float | None
    squared_l2: bool

    def find_eps_min(self) -> tuple[Tensor, Tensor]:
        """Find eps*, `[N]`, the smallest eps at which the plain attack succeeds (C.5-4).

        Also returns the plain attack's images at eps*, `[N, C, H, W]`. Where the attack never
        succeeds, eps* is 1.
        """
        rows = torch.arange(len(self.target), device=self.target.device)
        probe = self._pgd_loss(rows[:1])
        eps_min, images = self._map_chunks("smallest eps", self._eps_min_of_rows, probe, rows)
        return eps_min, images

    def find_gamma(self, eps: Tensor, measure: DiscrepancyMeasure) -> tuple[Tensor, Tensor, Tensor]:
        """Find the largest gamma, `[P, N]`, at which ISA succeeds within `eps` `[P, N]` (C.5-5).

        Returns ISA's images with it, `[P, N, C, H, W]`, gamma, and whether the search was
        capped, `[P, N]`: no gamma that it tried was too large (C.5 I1).
        """
        n_images = eps.shape[1]
        rows = torch.arange(n_images, device=eps.device).repeat(len(eps))
        probe = self._isa_loss(rows[:1], measure)(eps.new_zeros(1))
        search = partial(self._gamma_of_rows, measure)
        parts = self._map_chunks(" ".join(measure), search, probe, rows, eps.flatten())
        images, gamma, is_capped = (part.view(*eps.shape, *part.shape[1:]) for part in parts)
        return images, gamma, is_capped

    def _eps_min_of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        descent = self._descent(rows)
        loss = self._pgd_loss(rows)
        attack = graphed(lambda eps: [descent(eps, loss)], rows.device)

        def probe(eps: Tensor) -> tuple[Tensor, Tensor]:
            (images,) = attack(eps)
            return ~self._is_successful(images, rows), images

        first = torch.full(rows.shape, INITIAL_EPS, dtype=torch.float64, device=rows.device)
        _, eps_min, _, images = binary_search(probe, first, 1, self.binary_search_steps)
        untried = eps_min == 1
        if untried.any():
            rows = rows[untried]
            images[untried] = self._descent(rows)(eps_min[untried], self._pgd_loss(rows))
        return eps_min, images

    def _gamma_of_rows(
        self, measure: DiscrepancyMeasure, rows: Tensor, eps: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        descent = self._descent(rows)
        loss = self._isa_loss(rows, measure)
        attack = graphed(lambda gamma: [descent(eps, loss(gamma))], rows.device)
        upper = 1.0 if self.search_rtol is None else math.inf

        def probe(gamma: Tensor) -> tuple[Tensor, Tensor]:
            (images,) = attack(gamma)
            return self._is_successful(images, rows), images

        first = torch.full_like(eps, INITIAL_GAMMA)
        gamma, too_large, images, _ = binary_search(
            probe, first, upper, self.binary_search_steps, self.search_rtol
        )
        untried = gamma == 0
        if untried.any():
            rows = rows[untried]
            images[untried] = self._descent(rows)(eps[untried], self._pgd_loss(rows))
        return images, gamma, too_large == upper

    def _descent(self, rows: Tensor) -> Callable[[Tensor, Loss], Tensor]:
        """One attack on the rows, as a function of eps `[M]` and the loss.

        At the clean image, D and its gradient are 0. So all attacks share the first gradient.
        """
        start = self._start(rows)
        loss = self._pgd_loss(rows)
        first_gradient = objective_gradient(lambda images: loss(images).sum(), start)
        return partial(self.descend, start, first_gradient)

    def _start(self, rows: Tensor) -> Tensor:
        """Clean images of the rows in float64, as the released code's iterates are (C.2)."""
        return self.batch.images[rows].double()

    def _is_successful(self, adversarial: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.batch.folded(adversarial.float())
            return margin_loss(logits, self.target[rows]) < 0  # the target class wins

    def _pgd_loss(self, rows: Tensor) -> Loss:
        """The loss of C.5-2 with gamma = 0: the margin loss."""
        return lambda images: margin_loss(self.batch.folded(images), self.target[rows], self.kappa)

    def _isa_loss(self, rows: Tensor, measure: DiscrepancyMeasure) -> Callable[[Tensor], Loss]:
        """The loss of C.5-2, as a function of gamma `[M]`.

            max(max_{j != t'} f_j(x') - f_t'(x'), -kappa) + gamma * D(x, x')

        gamma is 1/lambda of paper eq (6), t' is the target class and D the discrepancy.
        """
        target = self.target[rows]
        n_classes = len(self.batch.network.head)
        labels = self.batch.labels[rows]
        classes = counted_classes(measure.class_set, labels, target, n_classes)

        def logits_and_maps(images: Tensor) -> tuple[Tensor, Tensor]:
            return self.interpreter.logits_and_maps(self.batch.folded, images, classes)

        with torch.no_grad():
            # These rows together, so that D is exactly 0 at the first step: a batch of another
            # size would round in another way.
            _, clean_maps = logits_and_maps(self._start(rows).float())

        def loss(images: Tensor, gamma: Tensor) -> Tensor:
            logits, maps = logits_and_maps(images)
            discrepancy = self.interpreter.discrepancy(
                maps, clean_maps, measure.norm, self.squared_l2
            )
            return margin_loss(logits, target, self.kappa) + gamma.float() * discrepancy

        return lambda gamma: partial(loss, gamma=gamma)

    def _map_chunks(
        self, label: str, search: Callable[..., tuple[Tensor, ...]], probe: Loss, *columns: Tensor
    ) -> list[Tensor]:
        """Apply `search` to chunks of the `columns` `[M]` and join its results.

        A chunk has as many rows as memory allows. `probe` is the loss of the first row.
        """
        # Without a label, nobody wants to see progress.
        full_label = self.batch.progress_label and f"{self.batch.progress_label}, {label}"
        with progress(full_label, len(columns[0]), unit="images") as advance:

            def search_and_advance(*chunk: Tensor) -> list[Tensor]:
                results = search(*chunk)
                advance(len(chunk[0]))
                return list(results)

            row_bytes = partial(gradient_bytes, probe, self._start(columns[0][:1]))
            return map_fitting_rows(search_and_advance, *columns, row_bytes=row_bytes)


def counted_classes(class_set: str, labels: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Classes of a class set, `[M, K]`: the true class; it and the target class; all classes.

    Paper eq (3) and (4). `labels` and `target` are `[M]`.
    """
    if class_set == "all":
        return torch.arange(n_classes, device=labels.device).expand(len(labels), -1)
    return torch.stack([labels] if class_set == "one" else [labels, target], dim=1)
