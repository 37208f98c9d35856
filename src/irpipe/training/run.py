"""Train one network from scratch by a recipe (C.1, C.2)."""

import time
from collections.abc import Callable
from pathlib import Path

import torch

from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import Checkpoint
from irpipe.outside_code import plain_name
from irpipe.runtime.progress import progress
from irpipe.runtime.threads import training_threads
from irpipe.training.plan import TrainingPlan
from irpipe.training.resume import ResumableState
from irpipe.training.trainer import LogLine, Trainer

Save = Callable[[Checkpoint, list[LogLine]], None]


def train(
    plan: TrainingPlan, data_dir: Path, device: torch.device, state_dir: Path, save: Save
) -> None:
    """Train the network of `plan` and pass it and its log to `save`.

    The log has one line per epoch. `data_dir` holds the data sets. A folder below `state_dir`
    holds the state until `save` has returned, so a killed training goes on where it was.

    Raises IrpipeError for bad input, if the loss diverges, or if another process trains the same
    network.
    """
    trainer = Trainer(plan, data_dir, device)
    label = f"train {plan.dataset}/{plain_name(plan.model)}/{plan.method}/seed{plan.run}"
    with (
        training_threads(),
        ResumableState(state_dir, trainer) as state,
        progress(label, trainer.n_steps, trainer.progress.step) as advance,
    ):
        while trainer.progress.step < trainer.n_steps:
            begin = time.monotonic()
            try:
                trainer.step()
                trainer.progress.seconds += time.monotonic() - begin
                is_epoch_end = trainer.progress.step % trainer.steps_per_epoch == 0
                advance(1, trainer.log_epoch() if is_epoch_end else "")
                state.save_if_due()
            except FloatingPointError as error:
                state.save()
                raise IrpipeError(
                    f"{error}; lower the recipe's lr (last good state: {state.path})"
                ) from error
        save(trainer.checkpoint(), trainer.log)
