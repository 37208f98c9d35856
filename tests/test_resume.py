"""Training killed and started again ends in the same bytes; two trainers never share a state."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irpipe.cli import main
from irpipe.io import read_checkpoint

RECIPE = "r={batch: 50, epochs: 2, rate: [[0, 1.0e-3]], ramp: [[0, 0], [20, 1]], steps: 2, step_size: 0.1}"
TRAIN = f"""
import sys
from irpipe import state
state.INTERVAL = 0.0  # save after every step
from irpipe.cli import main
sys.exit(main(["train", "--dataset", "digits", "--model", "small", "--method", "adv={{kind: standard, attacked: true}}",
    "--recipe", {RECIPE!r}, "--output", sys.argv[1]]))
"""


def start(output: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN, str(output)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process, once it has ended and its pipes are closed."""
    process.communicate()
    return process.returncode


def wait_for_state(output: Path, since: int) -> None:
    """Return once a state has been saved after the time `since`, in ns."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        saved = [path.stat().st_mtime_ns for path in output.parent.glob(".state/*/state.safetensors")]
        if saved and saved[0] > since:
            return
        time.sleep(0.02)
    raise AssertionError("no state was saved within a minute")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a network trained without interruption."""
    output = tmp_path_factory.mktemp("whole") / "net.safetensors"
    assert ended(start(output)) == 0
    assert not list(output.parent.glob(".state/*/state.safetensors"))
    return output.read_bytes()


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_killed_training_ends_in_the_same_bytes(tmp_path: Path, whole: bytes, sign: signal.Signals, code: int) -> None:
    output = tmp_path / "net.safetensors"
    for pause in (0.0, 0.2):
        begin = time.time_ns()
        process = start(output)
        wait_for_state(output, begin)
        time.sleep(pause)
        process.send_signal(sign)
        assert ended(process) == code
        assert not output.exists()
    assert ended(start(output)) == 0
    assert output.read_bytes() == whole


def test_second_trainer_of_the_same_network_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path / "net.safetensors")
    wait_for_state(tmp_path / "net.safetensors", 0)
    first.send_signal(signal.SIGSTOP)
    second = start(tmp_path / "net.safetensors")
    _, message = second.communicate()
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process is training this network" in message


def test_diverging_loss_stops_with_the_step_and_the_last_good_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.replace("[[0, 1.0e-3]]", "[[0, 1.0e+9]]")
    command = ["--dataset", "digits", "--model", "small", "--method", "normal", "--recipe", recipe]
    assert main(["train", *command, "--output", str(tmp_path / "net.safetensors")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"method normal: loss is \S+ at step 1; lower the recipe's rate", message)
    state = read_checkpoint(Path(message.split("last good state: ")[1].rstrip(")")))
    assert state.metadata["position"]["step"] == 1
    assert not (tmp_path / "net.safetensors").exists()
