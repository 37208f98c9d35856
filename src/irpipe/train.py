"""Train one network from scratch by a recipe (protocol C.1, C.2).

A method is a loss; this loop owns the optimiser, the schedules, the one random generator and the checkpoints. Weights,
order of batches and noise are the released code's: numpy's legacy generator, seeded once before the weights and once
more before the first epoch.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import ascend, in_parts, noise, sign_steps
from irpipe.data import Images, dataset, load
from irpipe.errors import IrpipeError
from irpipe.hardware import versions
from irpipe.io import Checkpoint
from irpipe.methods import Objective
from irpipe.models import Folded, build
from irpipe.optimise import Adam, draw_weights
from irpipe.progress import progress
from irpipe.replay import Recorded
from irpipe.state import State

VALIDATION_BATCH = 500
DIVERGED = 1e6  # a loss beyond any that a classifier of [0, 1] images starts from


@dataclass(frozen=True)
class Plan:
    """All that decides a trained network, besides the data: its fingerprint names the state to resume from."""

    dataset: str
    data: dict[str, Any]  # resolved entry of the data set
    model: str
    method: str
    spec: dict[str, Any]  # resolved entry of the method
    recipe: dict[str, Any]  # resolved
    run: int  # number of the seed: recipe seed + run
    code: str

    @property
    def seed(self) -> int:
        """Seed of weights, order and noise."""
        return int(self.recipe["seed"]) + self.run


@dataclass
class Position:
    """Where a training stands: steps done, the current epoch's order and what was summed up in it."""

    step: int
    order: np.ndarray
    total: float = 0.0
    seconds: float = 0.0


class Trainer:
    """One network on its way from drawn weights to the last step of its recipe."""

    def __init__(self, plan: Plan, data: Path, where: torch.device) -> None:
        module = dataset(plan.data["kind"])
        images = load(plan.data, data, "train")
        kept = module.VALIDATION
        self.plan, self.recipe, self.where, self.shape = plan, plan.recipe, where, module.SHAPE
        self.training = Images(images.images[kept:].to(where), images.labels[kept:].to(where))
        self.validation = Images(images.images[:kept].to(where), images.labels[:kept].to(where))
        self.data_sha256 = images.sha256()
        self.radius = plan.recipe["radius"] if plan.recipe["radius"] is not None else module.RADIUS
        self.objective = cast(
            Callable[..., Objective], importlib.import_module(f"irpipe.methods.{plan.spec['kind']}").objective
        )
        self.options = {key: value for key, value in plan.spec.items() if key != "kind"}
        self.network = build(plan.model, module.SHAPE, len(module.CLASSES))
        draw_weights(self.network, np.random.RandomState(plan.seed))
        self.network.to(where)
        self.recorded = Recorded(lambda *given: self._climb(Folded(self.network, self.shape), *given))
        self.adam = Adam(self.network)
        self.rng = np.random.RandomState(plan.seed)
        self.epoch_steps: int = len(self.training) // self.recipe["batch"]
        if not self.epoch_steps:
            raise IrpipeError(
                f"recipe.batch: {self.recipe['batch']}, but there are {len(self.training)} training images"
            )
        self.position = Position(0, np.arange(0))
        self.log: list[dict[str, float]] = []

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return int(self.recipe["epochs"]) * self.epoch_steps

    def scheduled(self, name: str) -> float:
        """The recipe's `rate` or `ramp` at the current step, linear between its points."""
        steps, values = zip(*self.recipe[name], strict=True)
        return float(np.interp(self.position.step, steps, values))

    def perturbed(self, images: Tensor, labels: Tensor, radius: float, outer: Objective) -> Tensor:
        """The images that maximise the method's inner objective, started as the `outer` one says, in `radius` (C.2)."""
        start = (images + noise(self.rng, outer.start, radius, images)).clamp(0, 1)
        given = images, labels, start, images.new_full((len(images), 1, 1, 1), radius)
        if self.where.type != "cpu":
            return self.recorded(*given)[0]
        climb = partial(self._climb, Folded(self.network, self.shape))
        (moved,) = in_parts(climb, *given) if outer.apart else climb(*given)
        return moved

    def _climb(self, folded: Folded, images: Tensor, labels: Tensor, start: Tensor, radius: Tensor) -> list[Tensor]:
        """The inner maximisation; iterates are float64, as numpy made them in the released code, the rest float32."""
        with torch.no_grad():
            objective = self.objective(folded, images, labels, **self.options)
        update = sign_steps(images, radius, self.recipe["step_size"])
        *_, last = ascend(start, objective.maximised(), update, self.recipe["steps"])
        return [last.float()]

    def step(self) -> float:
        """Take one step and return its loss.

        Raises FloatingPointError when loss or gradients diverge, with weights and generator as they were before.
        """
        generator, order = self.rng.get_state(), self.position.order
        number, batch = self.position.step % self.epoch_steps, self.recipe["batch"]
        if number == 0:
            self.position.order = self.rng.permutation(len(self.training))
        index = self.position.order[number * batch : (number + 1) * batch]
        images, labels = self.training.images[index], self.training.labels[index]
        objective = self.objective(self.network, images, labels, **self.options)
        radius = self.scheduled("ramp") * self.radius
        attacked = objective.attacked and radius > 0
        loss = objective.loss(self.perturbed(images, labels, radius, objective) if attacked else images)
        names, weights = zip(*self.network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        value = float(loss.detach())
        if not (abs(value) < DIVERGED and all(bool(gradient.isfinite().all()) for gradient in gradients)):
            self.rng.set_state(generator)
            self.position.order = order
            raise FloatingPointError(f"method {self.plan.method}: loss is {value} at step {self.position.step}")
        self.adam.step(dict(zip(names, gradients, strict=True)), self.scheduled("rate"))
        return value

    def validate(self) -> dict[str, float]:
        """Accuracy on the held-out images, clean and attacked by the recipe's own steps without a random start."""
        folded = Folded(self.network, self.shape)
        right = {"clean_accuracy": 0, "attacked_accuracy": 0}
        for start in range(0, len(self.validation), VALIDATION_BATCH):
            part = slice(start, start + VALIDATION_BATCH)
            images, labels = self.validation.images[part], self.validation.labels[part]
            for name, shown in (
                ("clean_accuracy", images),
                ("attacked_accuracy", self.attacked(folded, images, labels)),
            ):
                with torch.no_grad():
                    right[name] += int((folded(shown).argmax(dim=1) == labels).sum())
        return {name: count / max(len(self.validation), 1) for name, count in right.items()}

    def attacked(self, folded: Folded, images: Tensor, labels: Tensor) -> Tensor:
        """The images after the recipe's steps up its cross-entropy, at the final radius."""

        def loss(moved: Tensor) -> Tensor:
            return F.cross_entropy(folded(moved), labels)

        update = sign_steps(images, self.radius, self.recipe["step_size"])
        *_, last = ascend(images, loss, update, self.recipe["steps"])
        return last

    def close_epoch(self) -> str:
        """Add a line to the log and return it in words."""
        line: dict[str, float] = {"epoch": self.position.step // self.epoch_steps, "step": self.position.step}
        line |= {"loss": self.position.total / self.epoch_steps} | self.validate()
        line |= {"radius": self.scheduled("ramp") * self.radius, "rate": self.scheduled("rate")}
        self.log.append(line | {"seconds": self.position.seconds})
        self.position.total = self.position.seconds = 0.0
        return f"loss {line['loss']:.4f} clean {line['clean_accuracy']:.3f} attacked {line['attacked_accuracy']:.3f}"

    def checkpoint(self) -> Checkpoint:
        """The network as it stands, with all that made it."""
        about = asdict(self.plan) | {"run": f"seed{self.plan.run}", "seed": self.plan.seed}
        about |= {"data_sha256": self.data_sha256, "versions": versions(self.where)}
        return Checkpoint(about, {name: value.cpu() for name, value in self.network.state_dict().items()})


Save = Callable[[Checkpoint, list[dict[str, float]]], None]


def train(plan: Plan, data: Path, where: torch.device, states: Path, save: Save) -> None:
    """Train the network of `plan` on the data sets in `data` and give it, with its log of a line an epoch, to `save`.

    The state is kept in a folder below `states` until `save` has returned, so that a killed run goes on where it was.
    Raises IrpipeError for bad input, for a loss that diverges, and if another process trains the same network.
    """
    trainer = Trainer(plan, data, where)
    label = f"train {plan.dataset}/{plan.model}/{plan.method}/seed{plan.run}"
    with State(states, trainer) as state, progress(label, trainer.steps, trainer.position.step) as advance:
        while trainer.position.step < trainer.steps:
            begin = time.monotonic()
            try:
                trainer.position.total += trainer.step()
            except FloatingPointError as error:
                state.save()
                raise IrpipeError(f"{error}; lower the recipe's rate (last good state: {state.path})") from error
            trainer.position.step += 1
            trainer.position.seconds += time.monotonic() - begin
            note = trainer.close_epoch() if trainer.position.step % trainer.epoch_steps == 0 else ""
            advance(1, note)
            state.keep()
        save(trainer.checkpoint(), trainer.log)
