"""Operations that a GPU runs for a training step, counted on a device that is pretended.

One graph records a whole step: the inner maximisation, the gradients of the weights and Adam. The
CPU launches the graph, and one by one the operations outside it: those that choose images and
labels, and copies to the memory that the graph reads. Views are no operations. The last two columns
count how often the CPU waits to read from the device, and how often it copies data there, which is
the noise. Each 50 steps, one more read shows whether the loss has diverged.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pretended_device
from pretended_device import COPY, DEVICE, HOST_READ, PretendedDevice, captured, counts

from irpipe import config
from irpipe.published import METHODS
from irpipe.runtime import cuda_graph
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
    (short, _), (long, outside) = (_count(model, method, inner_steps) for inner_steps in (1, 2))
    inner_step = long - short
    reads, copies = outside[HOST_READ], outside[COPY]
    launched = outside.total() - reads - copies
    return StepCosts(inner_step, short - inner_step, launched, reads, copies)


def _count(model: str, method: str, inner_steps: int) -> tuple[int, Counter[str]]:
    """Operations in the graph, and those of the second step outside it."""
    recipe = config.lookup("recipes", "timing", None)
    recipe |= {"batch_size": 2, "inner_steps": inner_steps}
    options = config.lookup("methods", method, None)
    plan = TrainingPlan("digits", {"kind": "digits"}, model, method, options, recipe, 0, "none")
    captured.clear()
    with PretendedDevice():
        trainer = Trainer(plan, Path(), DEVICE)
        trainer.step()
        counts.clear()
        trainer.step()
    return captured.total(), counts.copy()


def rows(_setup: object = None) -> Iterator[dict[str, Any]]:
    """Yield one row for each network."""
    capture, cuda_graph.capture = cuda_graph.capture, pretended_device.capture
    try:
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
    finally:
        cuda_graph.capture = capture
