"""Operations that a GPU runs for a training step, counted on a device that is pretended.

One graph records a whole step: the inner maximisation, the gradients of the weights and Adam. The
CPU launches the graph, and one by one the operations outside it: those that choose images and
labels, and copies to the memory that the graph reads. Views are no operations. The last two columns
count how often the CPU waits to read from the device, and how often it copies data there, which is
the noise. Each 50 steps, one more read shows whether the loss has diverged.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pretended_device
from config_entries import entry
from pretended_device import COPY, DEVICE, HOST_READ, PretendedDevice, captured, counts
from torch import Tensor

from irpipe.published import METHODS
from irpipe.training.plan import TrainingPlan
from irpipe.training.trainer import Trainer

NETWORKS = (*(("small", method) for method in METHODS), ("wresnet", "int"))


@dataclass(frozen=True)
class StepCosts:
    """Operations recorded for one inner step and for the rest; per step: all else."""

    inner_step: int
    rest_of_graph: int
    outside: int
    host_reads: int
    copies: int


def step_costs(model: str, method: str) -> StepCosts:
    """Count the operations of one step of `method`, which the config `paper` names."""
    recipe = entry("recipes", "timing") | {"batch_size": 2}
    options = entry("methods", method)
    plan = TrainingPlan("digits", {"kind": "digits"}, model, method, options, recipe, 0, "none")
    with PretendedDevice(_capture):
        trainer = Trainer(plan, Path(), DEVICE)
        short, long = (_operations_of_graph(trainer, inner_steps) for inner_steps in (1, 2))
        counts.clear()
        trainer.step()
    reads, copies = counts[HOST_READ], counts[COPY]
    inner_step = long - short
    return StepCosts(inner_step, short - inner_step, counts.total() - reads - copies, reads, copies)


def _operations_of_graph(trainer: Trainer, inner_steps: int) -> int:
    """Operations that are recorded for a step of so many inner steps."""
    trainer.recipe["inner_steps"] = inner_steps
    for graph in trainer.training_step.graphs:
        graph.replay = None  # capture it anew
    captured.clear()
    trainer.step()
    return captured.total()


def _capture(
    function: Callable[..., list[Tensor]], inputs: list[Tensor]
) -> tuple[Callable[[], None], list[Tensor]]:
    """Capture on the pretended device; a replay, which nothing here reads, does nothing."""
    _, outputs = pretended_device.capture(function, inputs)
    return (lambda: None), outputs


def rows(_setup: object = None) -> Iterator[dict[str, Any]]:
    """Yield one row for each network."""
    for model, method in NETWORKS:
        costs = step_costs(model, method)
        yield {
            "network": f"{model} {method}",
            "an inner step": costs.inner_step,
            "rest of the graph": costs.rest_of_graph,
            "outside the graph": costs.outside,
            "host reads": costs.host_reads,
            "copies": costs.copies,
        }
