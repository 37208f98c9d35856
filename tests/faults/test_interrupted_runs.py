"""Training, attack and table that are stopped at random times end in the same bytes.

IRPIPE_KILLS sets how often SIGKILL is sent: 5 times if unset, 50 times in `make test-faults`. For
each five, the two signals that ask a process to end are sent two times each.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from irpipe.cli import main
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.training.trainer import Trainer

KILLS = int(os.environ.get("IRPIPE_KILLS") or 5)
STEPS = 22  # 1,197 images, 100 at a time, twice
SCRIPT = Path(__file__).resolve().parents[1] / "random_stops.py"
RECIPE = (
    "r={batch_size: 200, epochs: 1, lr: [[0, 1.0e-3]], eps_schedule: [[0, 1]], "
    "inner_steps: 1, inner_step_size: 0.1}"
)


@pytest.mark.long
def test_runs_that_are_stopped_at_any_time_end_in_the_same_bytes(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(KILLS)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    stops = report["stops"]
    assert (report["n_files"], report["n_steps"]) == (6, STEPS)
    assert len(stops) == KILLS + 2 * (KILLS * 2 // 5)
    for stop in stops:
        # A signal ends the run at once before the trainer handles it and after the training; one
        # after the end of the run finds that it has succeeded.
        number = stop["signal"]
        assert stop["exit_code"] in (0, -number, 128 + number), stop
        assert (stop["damaged"], stop["second_exit_code"], stop["different"]) == ([], 0, []), stop
        assert stop["seconds"] < 10
        if stop["has_state"]:
            # It was resumed; at most the last step was done twice.
            assert stop["n_steps"] <= STEPS + 1, stop
    # Most signals came during the training.
    assert sum(stop["has_state"] for stop in stops) > len(stops) / 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_training_that_is_asked_to_end_saves_its_last_step(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "--dataset", "digits", "--model", "small", "--method", "normal"]
    command += ["--recipe", RECIPE, "--output"]
    uninterrupted = tmp_path / "uninterrupted" / "net.safetensors"
    assert main([*command, str(uninterrupted)]) == 0
    handler, step = signal.getsignal(number), Trainer.step

    def step_with_signal(trainer: Trainer) -> None:
        if trainer.progress.step == 2:
            os.kill(os.getpid(), number)
        step(trainer)

    output = tmp_path / "net.safetensors"
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(Trainer, "step", step_with_signal)
        main([*command, str(output)])
    assert (stop.value.code, signal.getsignal(number)) == (128 + number, handler)
    (state,) = tmp_path.glob(".state/*/state.safetensors")
    assert read_checkpoint(state).metadata["progress"]["step"] == 3
    assert main([*command, str(output)]) == 0
    assert output.read_bytes() == uninterrupted.read_bytes()
    assert not state.exists()
