"""Every method trains every model on a device as on the CPU, and goes on from a saved state."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerator import accelerator

from irpipe import config
from irpipe.config import yaml_reader
from irpipe.datasets import Images
from irpipe.published import MODELS
from irpipe.training.plan import TrainingPlan
from irpipe.training.resume import restore_state, training_state
from irpipe.training.trainer import LogLine, Trainer

METHODS = yaml_reader.read_yaml(config.CONFIG_FOLDER / "paper.yaml")["methods"]
pytestmark = pytest.mark.gpu
RECIPE = {
    "batch_size": 2,
    "epochs": 1,
    "lr": [[0, 1.0e-3]],
    "eps_schedule": [[0, 0.5], [2, 1]],
    "inner_steps": 2,
    "inner_step_size": 0.05,
}


def trainer(model: str, method: str, device: torch.device) -> Trainer:
    recipe = config.resolve_named("recipes", RECIPE, "recipe")
    entry = METHODS[method]
    entry |= dict.fromkeys(entry.keys() & {"ig_steps", "inner_ig_steps"}, 2)
    options = config.resolve_named("methods", entry, "method")
    plan = TrainingPlan("digits", {"kind": "digits"}, model, method, options, recipe, 0, "none")
    return Trainer(plan, Path(), device)


def take_steps(trainer: Trainer, count: int) -> list[float]:
    losses = []
    for _ in range(count):
        trainer.step()
        losses.append(trainer.training_step.read_report().loss)
    return losses


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("model", list(MODELS))
def test_the_losses_are_those_of_the_cpu(model: str, method: str) -> None:
    expected = take_steps(trainer(model, method, torch.device("cpu")), 2)
    with accelerator() as device:
        losses = take_steps(trainer(model, method, device), 2)
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


def validate(trainer: Trainer) -> LogLine:
    """Validate on eight images."""
    held_out = trainer.validation
    trainer.validation = Images(held_out.images[:8], held_out.labels[:8])
    return trainer.validate()


def test_a_training_goes_on_from_its_state_and_validates() -> None:
    with accelerator() as device:
        first, second = (trainer("small", "int", device) for _ in range(2))
        take_steps(first, 1)
        restore_state(second, training_state(first))
        assert take_steps(second, 1) == take_steps(first, 1)
        line = validate(second)
    cpu = trainer("small", "int", torch.device("cpu"))
    take_steps(cpu, 2)
    assert line == validate(cpu)
