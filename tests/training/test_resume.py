"""A killed training goes on to the same bytes, and two trainers never share a state."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_python import programs

from irpipe.cli import main
from irpipe.networks.checkpoint import read_checkpoint

RECIPE = (
    "r={batch_size: 50, epochs: 2, lr: [[0, 1.0e-3]], eps_schedule: [[0, 0], [20, 1]], "
    "inner_steps: 2, inner_step_size: 0.1}"
)
TRAIN = ["train", "--dataset", "digits", "--model", "small", "--recipe", RECIPE]
ADV = "adv={kind: cross_entropy, adversarial: true}"
# Saves after every step. The last steps take so many seconds at least.
SCRIPT = f"""
import sys, time
from irpipe.training import resume
from irpipe.training.trainer import Trainer
output, seconds = sys.argv[1:]
resume.SAVE_SECONDS = 0.0
step = Trainer.step
def slow_step(trainer):
    if trainer.progress.step >= 30:
        time.sleep(float(seconds))
    step(trainer)
Trainer.step = slow_step
from irpipe.cli import main
sys.exit(main([*{TRAIN!r}, "--method", {ADV!r}, "--output", output]))
"""
# The last 16 of 46 steps then take 5 s. So a signal comes before the end on a fast machine, too.
SLOW = 0.3


def start(
    output: Path, seconds: float = 0, python: str | Path | None = None
) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [python or programs() / "python", "-c", SCRIPT, str(output), str(seconds)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def exit_code(process: subprocess.Popen[str]) -> int:
    """Wait until a process has ended."""
    process.communicate()
    return process.returncode


def wait_for_state(output: Path, since: int) -> Path:
    """Wait until a state has been saved after the time `since`, in ns; return its path."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in output.parent.glob(".state/*/state.safetensors"):
            if path.stat().st_mtime_ns > since:
                return path
        time.sleep(0.02)
    raise AssertionError("no state was saved within a minute")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a network that was trained without interruption."""
    output = tmp_path_factory.mktemp("uninterrupted") / "net.safetensors"
    assert exit_code(start(output)) == 0
    assert not list(output.parent.glob(".state/*/state.safetensors"))
    return output.read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_killed_training_ends_in_the_same_bytes(
    tmp_path: Path, uninterrupted: bytes, number: signal.Signals, code: int
) -> None:
    output = tmp_path / "net.safetensors"
    for pause in (0.0, 0.2):
        begin = time.time_ns()
        process = start(output, SLOW)
        wait_for_state(output, begin)
        time.sleep(pause)
        process.send_signal(number)
        assert exit_code(process) == code
        assert not output.exists()
    assert exit_code(start(output)) == 0
    assert output.read_bytes() == uninterrupted


def test_a_second_trainer_of_the_same_network_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "net.safetensors"
    first = start(output, SLOW, sys.executable)  # which SIGSTOP stops
    lock = wait_for_state(output, 0).with_name("lock")
    first.send_signal(signal.SIGSTOP)
    inode = lock.stat().st_ino
    second = start(output)
    _, message = second.communicate()
    assert second.returncode == 2
    assert message.splitlines() == [
        f"irpipe train: error: {lock.parent}: another process is training this network; "
        "wait for it or stop it"
    ]
    first.kill()
    first.communicate()
    # The lock file stays, and it is free.
    assert lock.stat().st_ino == inode
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_lock_file_stays_after_a_training(tmp_path: Path) -> None:
    recipe = RECIPE.replace("epochs: 2", "epochs: 1").replace("batch_size: 50", "batch_size: 600")
    command = [*TRAIN[:-1], recipe, "--method", "normal"]
    assert main([*command, "--output", str(tmp_path / "net.safetensors")]) == 0
    (folder,) = (tmp_path / ".state").iterdir()
    assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_training_without_locks_says_so_first_and_goes_on(
    tmp_path: Path,
    number: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some network file systems have no locks. A lock that outlives a killed job is no help."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    output = tmp_path / "net.safetensors"
    recipe = RECIPE.replace("epochs: 2", "epochs: 1").replace("batch_size: 50", "batch_size: 600")
    assert main([*TRAIN[:-1], recipe, "--method", "normal", "--output", str(output)]) == 0
    message, *_ = capsys.readouterr().err.splitlines()
    expected = (
        rf"{re.escape(str(tmp_path))}/\.state/\w+: its file system has no locks "
        rf"\({os.strerror(number)}\); training goes on without, so do not start it twice"
    )
    assert re.fullmatch(expected, message)
    assert read_checkpoint(output).metadata["method"] == "normal"


def test_a_state_folder_that_cannot_be_made_is_named_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    output, state = str(tmp_path / "net.safetensors"), str(tmp_path / "file")
    command = [*TRAIN, "--method", "normal", "--output", output, "--state", state]
    assert main(command) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"irpipe train: error: {re.escape(state)}/\w+: cannot be created \(Not a directory\); "
        "give another --state FOLDER",
        message,
    )


def test_a_diverging_loss_stops_with_the_step_and_the_last_good_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.replace("[[0, 1.0e-3]]", "[[0, 1.0e+9]]")
    command = [*TRAIN[:-1], recipe, "--method", "normal"]
    assert main([*command, "--output", str(tmp_path / "net.safetensors")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"method normal: loss is \S+ at step 1; lower the recipe's lr", message)
    state = read_checkpoint(Path(message.split("last good state: ")[1].rstrip(")")))
    assert state.metadata["progress"]["step"] == 1
    assert not (tmp_path / "net.safetensors").exists()
