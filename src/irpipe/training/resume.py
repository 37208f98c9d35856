"""The state of a training on disk, from which a killed training goes on to the same bytes.

The state lies outside Snakemake's outputs, because Snakemake deletes the outputs of a job that
fails (S.2), in a folder named by the fingerprint of all that decides the network (D.7).
"""

import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from irpipe.errors import IrpipeError, StoppedError
from irpipe.files import ensure_writable
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.training.trainer import Trainer, TrainingProgress

SAVE_SECONDS = 30.0  # between two saves
# These ask a process to end: it is preempted, or its time limit is near.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class ResumableState:
    """The saved state of one trainer, as a context.

    Entering locks the state and resumes the trainer from what an interrupted run left. Inside,
    `STOP_SIGNALS` make `save_if_due` save and end the process. Leaving without an exception
    removes the state.
    """

    def __init__(self, state_dir: Path, trainer: Trainer) -> None:
        identity = asdict(trainer.plan) | {
            "data": trainer.data_sha256,
            "device": trainer.device.type,
        }
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.trainer = trainer
        self.folder = state_dir / fingerprint
        self.path = self.folder / "state.safetensors"
        # The system frees this lock however the process ends. filelock's other kind of lock, for
        # file systems without flock, would outlive a killed process. The lock file stays:
        # without it, two processes could hold "the" lock, each on a file of its own.
        self.lock = FileLock(self.folder / "lock", fallback_to_soft=False)
        self.last_save = time.monotonic()
        self.stop_signal = 0  # 0 means none

    def __enter__(self) -> "ResumableState":
        """Raise IrpipeError if another process has the lock, or if the state cannot be used."""
        self._acquire_lock()
        try:
            if self.path.exists():
                restore_state(self.trainer, read_checkpoint(self.path))
        except IrpipeError as error:
            self.lock.release()
            raise IrpipeError(f"{error}; or remove it, to train from the start") from error
        self.previous_handlers = {
            number: signal.signal(number, self._note_signal) for number in STOP_SIGNALS
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        if kind is None:
            self.path.unlink(missing_ok=True)
        self.lock.release()

    def _acquire_lock(self) -> None:
        """Lock the folder of the state.

        Some network file systems have no locks. Training then goes on without one, because two
        trainers of one network only lose time: they write the same bytes, each file at once.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ensure_writable(self.path)
        except OSError as error:
            reason = error.strerror or error
            raise IrpipeError(
                f"{self.folder}: cannot be created ({reason}); give another --state FOLDER"
            ) from error
        try:
            self.lock.acquire(blocking=False)
        except Timeout as error:
            raise IrpipeError(
                f"{self.folder}: another process is training this network; wait for it or stop it"
            ) from error
        except OSError as error:
            print(
                f"{self.folder}: its file system has no locks ({error.strerror or error}); "
                "training goes on without, so do not start it twice",
                file=sys.stderr,
                flush=True,
            )

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = number

    def save_if_due(self) -> None:
        """Save if it is time to, or if the process was asked to end.

        In the latter case, end it: raise StoppedError with code 128 + signal.
        """
        if self.stop_signal or time.monotonic() - self.last_save > SAVE_SECONDS:
            self.save()
        if self.stop_signal:
            raise StoppedError(128 + self.stop_signal)

    def save(self) -> None:
        """Save now."""
        write_checkpoint(self.path, training_state(self.trainer))
        self.last_save = time.monotonic()


def training_state(trainer: Trainer) -> Checkpoint:
    """Return all that the next step depends on, and the log so far.

    These are the weights, Adam's moments, the generator of all random numbers (D.8) and the
    progress. Raises FloatingPointError as `Trainer.check` does.
    """
    trainer.check()
    tensors: dict[str, Tensor] = {}
    for name, value in trainer.network.state_dict().items():
        tensors[f"weight {name}"] = value
    adam = trainer.training_step.adam
    for name, value in adam.exp_avg.items():
        tensors[f"exp_avg {name}"] = value
    for name, value in adam.exp_avg_sq.items():
        tensors[f"exp_avg_sq {name}"] = value
    kind, keys, pos, has_gauss, cached_gaussian = trainer.generator
    tensors["generator"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    tensors["order"] = torch.from_numpy(trainer.progress.order.astype(np.int64))
    progress = {key: value for key, value in asdict(trainer.progress).items() if key != "order"}
    metadata: dict[str, Any] = {
        "progress": progress,
        "log": trainer.log,
        "pid": os.getpid(),
        "generator": [kind, int(pos), int(has_gauss), float(cached_gaussian)],
    }
    return Checkpoint(metadata, {name: value.detach().cpu() for name, value in tensors.items()})


def restore_state(trainer: Trainer, state: Checkpoint) -> None:
    """Set a trainer to a state that `training_state` returned."""
    metadata, tensors = state.metadata, state.tensors
    # In place, because a graph reads that memory.
    for name, value in trainer.network.state_dict().items():
        value.copy_(tensors[f"weight {name}"])
    adam = trainer.training_step.adam
    for name in adam.exp_avg:
        adam.exp_avg[name].copy_(tensors[f"exp_avg {name}"])
        adam.exp_avg_sq[name].copy_(tensors[f"exp_avg_sq {name}"])
    kind, pos, has_gauss, cached_gaussian = metadata["generator"]
    keys = tensors["generator"].numpy().astype(np.uint32)
    trainer.log = metadata["log"]
    progress = TrainingProgress(order=tensors["order"].numpy(), **metadata["progress"])
    trainer.go_to(progress, (kind, keys, pos, has_gauss, cached_gaussian))
