"""Stop training, attack and table at random times, run them again, and print what happened.

A script: `python random_stops.py FOLDER KILLS`. It prints `{"n_files", "n_steps", "stops"}` as
JSON: what an uninterrupted run makes, and one dictionary per stop.

One process imports torch and forks every run: starting each from scratch would cost seconds.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet  # noqa: F401
import scipy.stats  # noqa: F401
import torch.fx.experimental.symbolic_shapes  # noqa: F401 (of torch.autograd.grad)

# A forked run would otherwise import these kinds and libraries anew.
import irpipe.attacks.pgd  # noqa: F401
import irpipe.datasets.digits
import irpipe.evaluation  # noqa: F401
import irpipe.methods.cross_entropy  # noqa: F401
import irpipe.reports.accuracy_table  # noqa: F401
from irpipe import code_hash
from irpipe.cli import main
from irpipe.training import resume
from irpipe.training.trainer import Trainer

NAMES = ("net.safetensors", "pgd.h5", "table_t.csv", "table_t.md", "table_t.html", "table_t.tex")
RECIPE = (
    "r={batch_size: 100, epochs: 2, lr: [[0, 1.0e-3]], eps_schedule: [[0, 0], [12, 1]], "
    "inner_steps: 1, inner_step_size: 0.1}"
)
METHOD = "adv={kind: cross_entropy, adversarial: true}"
ATTACK = "pgd={kind: pgd, images: 20, steps: 2}"
TABLE = "t={kind: accuracy_table, title: T, attack: pgd, steps: 2}"


def commands(folder: Path) -> Iterator[list[str]]:
    network, result = str(folder / "net.safetensors"), str(folder / "pgd.h5")
    train = ["train", "--dataset", "digits", "--model", "small", "--method", METHOD]
    yield [*train, "--recipe", RECIPE, "--output", network]
    yield ["evaluate", "--checkpoint", network, "--attack", ATTACK, "--output", result]
    yield ["report", "--table", TABLE, result, "--output", str(folder)]


def start_run(folder: Path, messages: Path) -> int:
    """Fork a process that runs all commands in `folder`; return its process id.

    It appends a byte to the file `steps` for each training step that it begins.
    """
    if child := os.fork():
        return child
    exit_code: Any = 0
    try:
        folder.mkdir(exist_ok=True)
        steps = os.open(folder / "steps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        original_step = Trainer.step

        def counted_step(trainer: Trainer) -> None:
            os.write(steps, b".")
            original_step(trainer)

        Trainer.step = counted_step  # type: ignore[method-assign]
        for stream in (1, 2):
            os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        exit_code = max(main(command) for command in commands(folder))
    except SystemExit as stop:
        exit_code = stop.code
    finally:
        os._exit(exit_code)


def wait_for(process: int) -> int:
    """Exit code of a process; minus the signal, if one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def files_in(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}


def count_steps(folder: Path) -> int:
    return len((folder / "steps").read_bytes())


def has_state(folder: Path) -> bool:
    return bool(list(folder.glob(".state/*/state.safetensors")))


def wait_for_state(folder: Path, process: int) -> None:
    """Wait until a training has saved its state, or until its process has ended."""
    while not has_state(folder) and not os.waitid(
        os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT
    ):
        time.sleep(0.005)


def stop_and_run_again(
    folder: Path,
    messages: Path,
    number: int,
    pause: float,
    expected: dict[str, bytes],
    *,
    in_training: bool,
) -> dict[str, Any]:
    """Start a run, send it the signal after a pause, then run it again to its end.

    With `in_training`, the pause begins when the first state is saved.
    """
    child = start_run(folder, messages)
    if in_training:
        wait_for_state(folder, child)
    time.sleep(pause)
    begin = time.monotonic()
    os.kill(child, number)
    stop: dict[str, Any] = {"signal": number, "exit_code": wait_for(child)}
    stop["seconds"] = time.monotonic() - begin
    stop["damaged"] = [name for name, data in files_in(folder).items() if data != expected[name]]
    stop["has_state"] = has_state(folder)
    stop["second_exit_code"] = wait_for(start_run(folder, messages))
    files = files_in(folder)
    stop["different"] = [name for name in NAMES if files.get(name) != expected[name]]
    stop["n_steps"] = count_steps(folder)
    return stop


def stop_often(folder: Path, n_kills: int) -> dict[str, Any]:
    irpipe.datasets.digits.load(Path(), "train")  # imports what loading needs
    # A fork keeps the hashes of all files.
    code_hash.of_training("digits", "cross_entropy")
    code_hash.of_evaluation("digits", "pgd")
    code_hash.of_report("accuracy_table")
    resume.SAVE_SECONDS = 0.0  # save after every step
    uninterrupted, messages = folder / "uninterrupted", folder / "messages"
    begin = time.monotonic()
    wait_for(start_run(uninterrupted, messages))
    duration = time.monotonic() - begin
    expected = files_in(uninterrupted)
    rng = random.Random(0)
    numbers = [signal.SIGKILL] * n_kills + [signal.SIGTERM, signal.SIGUSR1] * (n_kills * 2 // 5)
    stops = []
    for i, number in enumerate(numbers):
        # Half of the signals come early in the training, even if a run takes a third of the time
        # that the first one took, or three times as long.
        in_training = i // 2 % 2 == 1
        pause = rng.uniform(0, duration / 6 if in_training else duration)
        arguments = (folder / str(i), messages, number, pause, expected)
        stops.append(stop_and_run_again(*arguments, in_training=in_training))
    return {"n_files": len(expected), "n_steps": count_steps(uninterrupted), "stops": stops}


if __name__ == "__main__":
    print(json.dumps(stop_often(Path(sys.argv[1]), int(sys.argv[2]))))
