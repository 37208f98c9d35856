"""Training, attack and table stopped at random times: each time they are run again, they end in the same bytes.

IRPIPE_KILLS sets how often SIGKILL comes (5 times unless given; `make test-faults` asks for 50); the two signals that
ask to end come two times each for five of those.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from irpipe.cli import main
from irpipe.io import read_checkpoint
from irpipe.train import Trainer

KILLS = int(os.environ.get("IRPIPE_KILLS") or 5)
STEPS = 22  # 1,197 images, 100 at a time, twice
# one process imports torch and forks a run each time: a start of its own would cost seconds
SERVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from irpipe import state, train
from irpipe.cli import main
import irpipe.attacks.pgd, irpipe.datasets.digits, irpipe.evaluate, irpipe.methods.standard, irpipe.reports.table
irpipe.datasets.digits.load(Path(), "train")  # imports what loading needs
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
state.INTERVAL = 0.0  # save after every step
recipe = "r={batch: 100, epochs: 2, rate: [[0, 1.0e-3]], ramp: [[0, 0], [12, 1]], steps: 1, step_size: 0.1}"
NAMES = ("net.safetensors", "pgd.h5", "table_t.csv", "table_t.md", "table_t.html", "table_t.tex")

def counted(trainer, step=train.Trainer.step):
    os.write(begun, b".")
    return step(trainer)

def commands(place):
    net, result = str(place / "net.safetensors"), str(place / "pgd.h5")
    method, attack = "adv={kind: standard, attacked: true}", "pgd={kind: pgd, images: 20, steps: 2}"
    yield ["train", "--dataset", "digits", "--model", "small", "--method", method, "--recipe", recipe, "--output", net]
    yield ["evaluate", "--checkpoint", net, "--attack", attack, "--output", result]
    yield ["report", "--table", "t={kind: table, title: T, attack: pgd, steps: 2}", result, "--output", str(place)]

def start(place):
    global begun
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        place.mkdir(exist_ok=True)
        begun = os.open(place / "begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        train.Trainer.step = counted
        for number in (1, 2):
            os.dup2(os.open(folder / "messages", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        code = max(main(command) for command in commands(place))
    except SystemExit as stop:
        code = stop.code
    finally:
        os._exit(code)

def made(place):
    return {name: (place / name).read_bytes() for name in NAMES if (place / name).exists()}

begin = time.monotonic()
os.waitpid(start(folder / "whole"), 0)
lasted = time.monotonic() - begin
whole, pauses, found = made(folder / "whole"), random.Random(0), []
signs = [signal.SIGKILL] * kills + [signal.SIGTERM, signal.SIGUSR1] * (kills * 2 // 5)
for number, sign in enumerate(signs):
    place = folder / str(number)
    child = start(place)
    time.sleep(pauses.uniform(0, lasted))
    asked = time.monotonic()
    os.kill(child, sign)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stopped = time.monotonic() - asked
    left = made(place)
    half = [name for name in left if left[name] != whole[name]]
    saved = bool(list(place.glob(".state/*/state.safetensors")))
    again = os.waitstatus_to_exitcode(os.waitpid(start(place), 0)[1])
    lost = [name for name in NAMES if made(place).get(name) != whole[name]]
    begun = len((place / "begun").read_bytes())
    found.append({"sign": sign, "ended": ended, "stopped": stopped, "half": half, "saved": saved, "again": again,
                  "lost": lost, "begun": begun})
print(json.dumps({"made": len(whole), "begun": len((folder / "whole" / "begun").read_bytes()), "found": found}))
"""


def test_stopped_at_any_time_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """A signal before the trainer listens, or after it, ends the run at once; one after its end finds it gone (0)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER, str(tmp_path), str(KILLS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["made"], said["begun"], len(said["found"])) == (6, STEPS, KILLS + 2 * (KILLS * 2 // 5))
    for stop in said["found"]:
        assert stop["ended"] in (0, -stop["sign"], 128 + stop["sign"]), stop
        assert (stop["half"], stop["again"], stop["lost"]) == ([], 0, []), stop
        assert stop["stopped"] < 10
        if stop["saved"]:  # resumed: one interval is one step here
            assert stop["begun"] <= STEPS + 1, stop
    assert sum(stop["saved"] for stop in said["found"]) > len(said["found"]) / 3  # most fell into the training itself


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_end_it_saves_its_last_step(
    sign: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = "r={batch: 200, epochs: 1, rate: [[0, 1.0e-3]], ramp: [[0, 1]], steps: 1, step_size: 0.1}"
    given = ["train", "--dataset", "digits", "--model", "small", "--method", "normal", "--recipe", recipe, "--output"]
    assert main([*given, str(tmp_path / "whole" / "net.safetensors")]) == 0
    before, step = signal.getsignal(sign), Trainer.step

    def asked(trainer: Trainer) -> float:
        if trainer.position.step == 2:
            os.kill(os.getpid(), sign)
        return step(trainer)

    output = tmp_path / "net.safetensors"
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as stop:
        patched.setattr(Trainer, "step", asked)
        main([*given, str(output)])
    assert (stop.value.code, signal.getsignal(sign)) == (128 + sign, before)
    (state,) = tmp_path.glob(".state/*/state.safetensors")
    assert read_checkpoint(state).metadata["position"]["step"] == 3
    assert main([*given, str(output)]) == 0
    assert output.read_bytes() == (tmp_path / "whole" / "net.safetensors").read_bytes()
    assert not state.exists()
