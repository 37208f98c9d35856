"""One network and its training, step by step (C.1, C.2).

A method is a loss. The trainer owns the optimiser, the schedules and the random numbers.
Initial weights, order of the images and noise are those of the released code: they come from
numpy's legacy generator, which is seeded before the weights and again before the first epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from irpipe.networks.network import Classifier
from irpipe.outside_code import import_kind, is_outside
from irpipe.runtime.device import versions
from irpipe.training.adam import step_sizes
from irpipe.training.check_method import check_method
from irpipe.training.draws import Draw, drawn_ahead
from irpipe.training.plan import TrainingPlan
from irpipe.training.training_step import TrainingStep
from irpipe.training.weight_init import draw_weights

VALIDATION_BATCH_SIZE = 500
# One line of the training log. None: there are no held-out images to measure the accuracy on.
LogLine = dict[str, float | None]
# On a GPU, which would wait for each check. A CPU checks each step.
STEPS_PER_CHECK = 50


@dataclass
class TrainingProgress:
    """How far a training is."""

    # Steps that are done.
    step: int
    # Indices of the training images in the order of the current epoch.
    order: np.ndarray
    # Sum of the losses of this epoch's steps, up to the last check.
    loss_sum: float = 0.0
    # Seconds that this epoch's steps took.
    seconds: float = 0.0


class Trainer:
    """A network that is trained by a plan, from its initial weights to the last step."""

    def __init__(self, plan: TrainingPlan, data_dir: Path, device: torch.device) -> None:
        """Raise IrpipeError if the data set is missing or smaller than a batch."""
        dataset = facts(plan.data)
        images = load(plan.data, data_dir, "train")
        self.plan = plan
        self.has_own_code = is_outside(plan.model) or is_outside(plan.options["kind"])
        self.recipe = plan.recipe
        self.device = device
        n = dataset.n_validation
        self.training = images.part(slice(n, None), device)
        self.validation = images.part(slice(n), device)
        self.data_sha256 = images.sha256()
        self.eps = self.recipe["eps"] if self.recipe["eps"] is not None else dataset.train_eps
        self.steps_per_epoch: int = len(self.training) // self.recipe["batch_size"]
        if not self.steps_per_epoch:
            raise IrpipeError(
                f"recipe.batch_size: {self.recipe['batch_size']}, but there are "
                f"{len(self.training)} training images"
            )
        method = import_kind("methods", plan.options["kind"])
        options = {key: value for key, value in plan.options.items() if key != "kind"}
        objective = cast(Callable[..., Objective], partial(method.objective, **options))
        # `draw_weights` leaves linear layers and others as they were made, with torch's numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            self.network = build(plan.model, dataset.shape, len(dataset.class_names))
        draw_weights(self.network, np.random.RandomState(plan.seed))
        self.network.move_to(device)
        self.training_step = TrainingStep(self.network, objective, self.recipe, dataset.shape)
        steps = np.arange(self.n_steps)
        self.all_eps = self.scheduled("eps_schedule", steps) * self.eps
        schedule = [self.all_eps, step_sizes(self.scheduled("lr", steps).tolist())]
        self.schedule = torch.tensor(np.stack(schedule, axis=1), dtype=torch.float32).to(device)
        self.noise_shape = self.recipe["batch_size"], *dataset.shape
        if is_outside(plan.options["kind"]):
            folded, labels = self.training_step.folded(), self.training.labels
            check_method(objective, folded, labels, plan.options["kind"])
        # The method's traits, from a blank image: they are the same for every batch.
        with torch.no_grad():
            blank = torch.zeros(1, *dataset.shape, device=device)
            self.traits = objective(self.training_step.folded(), blank, self.training.labels[:1])
        self.log: list[LogLine] = []
        generator = np.random.RandomState(plan.seed).get_state(legacy=True)
        self.go_to(TrainingProgress(0, np.arange(0)), generator)

    @property
    def n_steps(self) -> int:
        """Number of steps of the complete training."""
        return int(self.recipe["epochs"]) * self.steps_per_epoch

    def scheduled(self, name: str, steps: np.ndarray | int) -> np.ndarray:
        """The recipe's `lr` or `eps_schedule` at `steps`, linear between its points."""
        points, values = zip(*self.recipe[name], strict=True)
        scheduled: np.ndarray = np.interp(steps, points, values)
        return scheduled

    def go_to(self, progress: TrainingProgress, generator: Any) -> None:
        """Go on from `progress`, with the weights as they are and the generator in this state."""
        self.progress = progress
        self.generator = generator
        # The rest of the current epoch. None: it starts at the current step.
        self.batches: Iterator[tuple[Tensor, Tensor]] | None = None
        rng = np.random.RandomState()
        rng.set_state(generator)
        steps = range(progress.step, self.n_steps)
        self.draws = drawn_ahead(partial(self._draw, rng), steps)
        self.training_step.start_report(progress.loss_sum)
        self._keep()

    def step(self) -> None:
        """Take one step. Each `STEPS_PER_CHECK` steps and after each epoch, call `check`."""
        if self.has_own_code:  # It may draw numbers by torch, such as those of dropout.
            torch.manual_seed(self.plan.seed * self.n_steps + self.progress.step)
        draw = next(self.draws)
        images, labels = self._next_batch(draw.order)
        noise = None if draw.noise is None else draw.noise.to(self.device, non_blocking=True)
        self.training_step(images, labels, self.schedule[self.progress.step], noise)
        self.generator = draw.generator
        self.progress.step += 1
        n_unchecked = self.progress.step - self.kept_progress.step
        is_epoch_end = self.progress.step % self.steps_per_epoch == 0
        if is_epoch_end or n_unchecked >= STEPS_PER_CHECK or self.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Wait for the device, and see whether a loss or its gradients have diverged.

        If so, go back to the last check and repeat the steps one by one. Raise FloatingPointError
        at the one that diverges. All is then as it was before that step.
        """
        n_unchecked = self.progress.step - self.kept_progress.step
        if not n_unchecked:
            return
        report = self.training_step.read_report()
        if not report.n_diverged:
            self.progress.loss_sum = report.loss_sum
            self._keep()
            return
        self.training_step.go_back()
        self.go_to(self.kept_progress, self.kept_generator)
        if n_unchecked == 1:
            raise FloatingPointError(
                f"method {self.plan.method}: loss is {report.loss} at step {self.progress.step}"
            )
        for _ in range(n_unchecked):
            self.step()
            self.check()

    def _keep(self) -> None:
        """Keep what `check` may go back to."""
        self.training_step.keep()
        self.kept_progress = replace(self.progress)
        self.kept_generator = self.generator

    def _draw(self, rng: np.random.RandomState, step: int) -> Draw:
        """Draw what a step draws: the order of the images, if an epoch starts, then the noise."""
        order = noise = None
        if step % self.steps_per_epoch == 0:
            order = rng.permutation(len(self.training))
        if self.traits.uses_adversarial and self.all_eps[step] > 0:
            like, eps = torch.empty(self.noise_shape), self.all_eps[step]
            noise = random_perturbation(rng, self.traits.init, eps, like)
            if self.device.type == "cuda":
                noise = noise.pin_memory()  # else its copy to the device would wait
        return Draw(order, noise, rng.get_state(legacy=True))

    def _next_batch(self, order: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """Return images and labels of the current step; `order` is that of an epoch that starts."""
        if order is not None:
            self.progress.order, self.batches = order, None
        if self.batches is None:
            complete = self.steps_per_epoch * self.recipe["batch_size"]
            rows = self.progress.order[:complete].reshape(self.steps_per_epoch, -1)
            self.batches = self.training.batches(rows[self.progress.step % self.steps_per_epoch :])
        images, labels = next(self.batches)
        # Images of float64 are for attacks (C.1); weights are float32.
        return images.to(self.device).float(), labels

    def validate(self) -> LogLine:
        """Accuracy on the held-out images, clean and after PGD; None if there are no such images.

        PGD takes the inner steps of the recipe, without a random start, up the cross-entropy and
        within the final eps.
        """
        folded = self.training_step.folded()
        n_clean = n_attacked = 0
        for start in range(0, len(self.validation), VALIDATION_BATCH_SIZE):
            rows = slice(start, start + VALIDATION_BATCH_SIZE)
            images = self.validation.images[rows].to(self.device).float()
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
        step = self.progress.step
        line: LogLine = {
            "epoch": step // self.steps_per_epoch,
            "step": step,
            "loss": self.progress.loss_sum / self.steps_per_epoch,
            **self.validate(),
            "eps": float(self.scheduled("eps_schedule", step)) * self.eps,
            "lr": float(self.scheduled("lr", step)),
            "seconds": self.progress.seconds,
        }
        self.log.append(line)
        self.progress.loss_sum = self.progress.seconds = 0.0
        self.training_step.start_report(0.0)
        self._keep()
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
