"""One network and its training, step by step (C.1, C.2).

A method is a loss. The trainer owns the optimiser, the schedules and the random numbers.
Initial weights, order of the images and noise are those of the released code: they come from
numpy's legacy generator, which is seeded before the weights and again before the first epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent.gradient_ascent import gradient_ascent, linf_sign_update, random_perturbation
from irpipe.datasets import facts, load
from irpipe.errors import IrpipeError
from irpipe.methods import Objective
from irpipe.networks.architectures import build
from irpipe.networks.checkpoint import Checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.network import Classifier
from irpipe.outside_code import import_kind
from irpipe.runtime.cuda_graph import CudaGraphed
from irpipe.runtime.device import versions
from irpipe.runtime.threads import map_row_chunks
from irpipe.training.adam import TensorFlowAdam
from irpipe.training.plan import TrainingPlan
from irpipe.training.weight_init import draw_weights

VALIDATION_BATCH_SIZE = 500
# One line of the training log. None: there are no held-out images to measure the accuracy on.
LogLine = dict[str, float | None]
# No classifier of images in [0, 1] starts from such a loss.
DIVERGED_ABOVE = 1e6


@dataclass
class TrainingProgress:
    """How far a training is."""

    # Steps that are done.
    step: int
    # Indices of the training images in the order of the current epoch.
    order: np.ndarray
    # Sum of the losses of this epoch's steps.
    loss_sum: float = 0.0
    # Seconds that this epoch's steps took.
    seconds: float = 0.0


class Trainer:
    """A network that is trained by a plan, from its initial weights to the last step.

    The caller counts the steps: it increases `progress.step` after each call of `step`.
    """

    def __init__(self, plan: TrainingPlan, data_dir: Path, device: torch.device) -> None:
        """Raise IrpipeError if the data set is missing or smaller than a batch."""
        dataset = facts(plan.data)
        images = load(plan.data, data_dir, "train")
        self.plan = plan
        self.recipe = plan.recipe
        self.device = device
        self.shape = dataset.shape
        n = dataset.n_validation
        self.training = images.part(slice(n, None), device)
        self.validation = images.part(slice(n), device)
        self.data_sha256 = images.sha256()
        self.eps = self.recipe["eps"] if self.recipe["eps"] is not None else dataset.train_eps
        method = import_kind("methods", plan.options["kind"])
        options = {key: value for key, value in plan.options.items() if key != "kind"}
        self.objective = cast(Callable[..., Objective], partial(method.objective, **options))
        self.network = build(plan.model, dataset.shape, len(dataset.class_names))
        draw_weights(self.network, np.random.RandomState(plan.seed))
        self.network.to(device)
        self.graphed_maximisation = CudaGraphed(
            lambda *tensors: self._inner_maximisation(self._folded(), *tensors)
        )
        self.adam = TensorFlowAdam(self.network)
        self.rng = np.random.RandomState(plan.seed)
        self.steps_per_epoch: int = len(self.training) // self.recipe["batch_size"]
        if not self.steps_per_epoch:
            raise IrpipeError(
                f"recipe.batch_size: {self.recipe['batch_size']}, but there are "
                f"{len(self.training)} training images"
            )
        self.progress = TrainingProgress(0, np.arange(0))
        # The rest of the current epoch. None: it starts at the current step.
        self.batches: Iterator[tuple[Tensor, Tensor]] | None = None
        self.log: list[LogLine] = []

    @property
    def n_steps(self) -> int:
        """Number of steps of the complete training."""
        return int(self.recipe["epochs"]) * self.steps_per_epoch

    def scheduled(self, name: str) -> float:
        """The recipe's `lr` or `eps_schedule` at the current step, linear between its points."""
        steps, values = zip(*self.recipe[name], strict=True)
        return float(np.interp(self.progress.step, steps, values))

    def step(self) -> float:
        """Take one step and return its loss.

        Raises FloatingPointError if the loss or its gradients diverge. Weights and generator are
        then as they were before the step.
        """
        generator, order = self.rng.get_state(), self.progress.order
        images, labels = self._next_batch()
        objective = self.objective(self.network, images, labels)
        eps = self.scheduled("eps_schedule") * self.eps
        if objective.uses_adversarial and eps > 0:
            images = self.perturb(images, labels, eps, objective)
        loss = objective.loss(images)
        names, weights = zip(*self.network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        value = float(loss.detach())
        is_finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        if not (abs(value) < DIVERGED_ABOVE and is_finite):
            self.rng.set_state(generator)
            self.progress.order, self.batches = order, None
            raise FloatingPointError(
                f"method {self.plan.method}: loss is {value} at step {self.progress.step}"
            )
        self.adam.step(dict(zip(names, gradients, strict=True)), self.scheduled("lr"))
        return value

    def _next_batch(self) -> tuple[Tensor, Tensor]:
        """Return images and labels of the current step; the first of an epoch draws its order."""
        batch = self.progress.step % self.steps_per_epoch
        if batch == 0:
            self.progress.order = self.rng.permutation(len(self.training))
        if batch == 0 or self.batches is None:
            complete = self.steps_per_epoch * self.recipe["batch_size"]
            rows = self.progress.order[:complete].reshape(self.steps_per_epoch, -1)
            self.batches = self.training.batches(list(rows[batch:]))
        images, labels = next(self.batches)
        return images.to(self.device), labels

    def perturb(self, images: Tensor, labels: Tensor, eps: float, objective: Objective) -> Tensor:
        """Return the images that maximise the method's inner loss within `eps` (C.2).

        `objective` is that of the batch; it decides the random start.
        """
        noise = random_perturbation(self.rng, objective.init, eps, images)
        start = (images + noise).clamp(0, 1)
        eps_column = images.new_full((len(images), 1, 1, 1), eps)  # rows can be split into chunks
        tensors = images, labels, start, eps_column
        if self.device.type != "cpu":
            return self.graphed_maximisation(*tensors)[0]
        maximise = partial(self._inner_maximisation, self._folded())
        if objective.separable:
            return map_row_chunks(maximise, *tensors)[0]
        return maximise(*tensors)[0]

    def _folded(self) -> FoldedNetwork:
        """The network with its current weights, for loops that change the images only."""
        return FoldedNetwork(self.network, self.shape)

    def _inner_maximisation(
        self, folded: FoldedNetwork, images: Tensor, labels: Tensor, start: Tensor, eps: Tensor
    ) -> list[Tensor]:
        """Return the last iterate, `[N, C, H, W]` float32, as a list of one.

        The iterates are float64, because numpy makes them so in the released code (C.2).
        """
        with torch.no_grad():
            objective = self.objective(folded, images, labels)
        update = linf_sign_update(images, eps, self.recipe["inner_step_size"])
        steps = self.recipe["inner_steps"]
        *_, last = gradient_ascent(start, objective.get_inner_loss(), update, steps)
        return [last.float()]

    def validate(self) -> LogLine:
        """Accuracy on the held-out images, clean and after PGD; None if there are no such images.

        PGD takes the inner steps of the recipe, without a random start, up the cross-entropy and
        within the final eps.
        """
        folded = self._folded()
        n_clean = n_attacked = 0
        for start in range(0, len(self.validation), VALIDATION_BATCH_SIZE):
            rows = slice(start, start + VALIDATION_BATCH_SIZE)
            images = self.validation.images[rows].to(self.device)
            labels = self.validation.labels[rows]
            n_clean += _count_correct(folded, images, labels)
            n_attacked += _count_correct(folded, self._pgd(folded, images, labels), labels)
        n_images = len(self.validation)
        return {
            "clean_accuracy": n_clean / n_images if n_images else None,
            "attacked_accuracy": n_attacked / n_images if n_images else None,
        }

    def _pgd(self, classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
        def cross_entropy(adversarial: Tensor) -> Tensor:
            return F.cross_entropy(classifier(adversarial), labels)

        update = linf_sign_update(images, self.eps, self.recipe["inner_step_size"])
        *_, last = gradient_ascent(images, cross_entropy, update, self.recipe["inner_steps"])
        return last

    def log_epoch(self) -> str:
        """Add a line on the epoch that has just ended to `log`, and return it in words."""
        line: LogLine = {
            "epoch": self.progress.step // self.steps_per_epoch,
            "step": self.progress.step,
            "loss": self.progress.loss_sum / self.steps_per_epoch,
            **self.validate(),
            "eps": self.scheduled("eps_schedule") * self.eps,
            "lr": self.scheduled("lr"),
            "seconds": self.progress.seconds,
        }
        self.log.append(line)
        self.progress.loss_sum = self.progress.seconds = 0.0
        clean, attacked = line["clean_accuracy"], line["attacked_accuracy"]
        text = f"loss {line['loss']:.4f}"
        if clean is None or attacked is None:
            return text
        return f"{text} clean {clean:.3f} attacked {attacked:.3f}"

    def checkpoint(self) -> Checkpoint:
        """The network with its current weights, and all that it comes from."""
        metadata = asdict(self.plan) | {"run": f"seed{self.plan.run}", "seed": self.plan.seed}
        metadata |= {"data_sha256": self.data_sha256, "versions": versions(self.device)}
        weights = {name: value.cpu() for name, value in self.network.state_dict().items()}
        return Checkpoint(metadata, weights)


@torch.no_grad()
def _count_correct(classifier: Classifier, images: Tensor, labels: Tensor) -> int:
    logits = classifier(images)
    # The argmax of NaN is a class like any other.
    is_correct = (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)
    return int(is_correct.sum())
