"""Training state on disk: kept on a timer and at SIGTERM, resumed to the same bytes, locked against a second trainer.

It lies outside Snakemake's outputs, which are deleted when a job fails, in a folder named by the fingerprint of all
that decides the network (design.md, decisions 7 and 8; cluster.md 2.8).
"""

import fcntl
import hashlib
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from irpipe.train import Trainer

INTERVAL = 30.0  # seconds between two saves
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # ask a process to end: preemption, a time limit that is near


class State:
    """The saved state of one trainer; a context in which `SIGNALS` save before the process ends with code 128 + signal.

    Entering resumes the trainer from what an interrupted run left; leaving without an exception removes the state.
    """

    def __init__(self, states: Path, trainer: "Trainer") -> None:
        identity = asdict(trainer.plan) | {"data": trainer.data_sha256, "device": trainer.where.type}
        fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        self.folder, self.trainer = states / fingerprint, trainer
        self.path = self.folder / "state.safetensors"
        self.saved, self.stopping = time.monotonic(), 0

    def __enter__(self) -> "State":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.lock.close()
            raise IrpipeError(
                f"{self.folder}: another process is training this network; wait for it or stop it"
            ) from error
        if self.path.exists():
            try:
                restore(self.trainer, read_checkpoint(self.path))
            except IrpipeError as error:
                self.lock.close()
                raise IrpipeError(f"{error}; or remove it, to train from the start") from error
        self.previous = {number: signal.signal(number, self._stop) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        if kind is None:
            self.path.unlink(missing_ok=True)  # the lock file stays: removing it would let two hold "the" lock
        self.lock.close()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = number

    def keep(self) -> None:
        """Save if it is time to, or if the process was asked to end; then end it."""
        if self.stopping or time.monotonic() - self.saved > INTERVAL:
            self.save()
        if self.stopping:
            raise SystemExit(128 + self.stopping)

    def save(self) -> None:
        """Save now."""
        write_checkpoint(self.path, snapshot(self.trainer))
        self.saved = time.monotonic()


def snapshot(trainer: "Trainer") -> Checkpoint:
    """All that the next step depends on: weights, moments, generator, position, and the log so far."""
    kind, keys, place, has_gauss, gauss = trainer.rng.get_state(legacy=True)
    tensors: dict[str, Tensor] = {f"weight {name}": value for name, value in trainer.network.state_dict().items()}
    tensors |= {f"first {name}": value for name, value in trainer.adam.first.items()}
    tensors |= {f"second {name}": value for name, value in trainer.adam.second.items()}
    tensors["generator"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    tensors["order"] = torch.from_numpy(trainer.position.order.astype(np.int64))
    position = {key: value for key, value in asdict(trainer.position).items() if key != "order"}
    about: dict[str, Any] = {
        "position": position,
        "taken": trainer.adam.taken,
        "log": trainer.log,
        "pid": os.getpid(),
    }
    about["generator"] = [kind, int(place), int(has_gauss), float(gauss)]
    return Checkpoint(about, {name: value.detach().cpu() for name, value in tensors.items()})


def restore(trainer: "Trainer", saved: Checkpoint) -> None:
    """Put a trainer back to where `snapshot` found it."""
    about, tensors = saved.metadata, saved.tensors
    trainer.network.load_state_dict({name: tensors[f"weight {name}"] for name in trainer.network.state_dict()})
    for name in trainer.adam.first:
        trainer.adam.first[name].copy_(tensors[f"first {name}"])
        trainer.adam.second[name].copy_(tensors[f"second {name}"])
    trainer.adam.taken, trainer.log = about["taken"], about["log"]
    kind, place, has_gauss, gauss = about["generator"]
    trainer.rng.set_state((kind, tensors["generator"].numpy().astype(np.uint32), place, has_gauss, gauss))
    for key, value in about["position"].items():
        setattr(trainer.position, key, value)
    trainer.position.order = tensors["order"].numpy()
