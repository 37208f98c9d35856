"""Training killed at random times: each time it is resumed, it ends in the same bytes.

IRPIPE_KILLS sets how often (20 unless given; `make test-faults` asks for 50).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("IRPIPE_KILLS") or 20)
# one process imports torch and forks a training each time: a start of its own would cost seconds
SERVER = """
import json, os, random, signal, sys, time
from pathlib import Path
from irpipe import state, train
from irpipe.cli import main
import irpipe.datasets.digits, irpipe.methods.standard
irpipe.datasets.digits.load(Path(), "train")  # imports what loading needs
folder, kills, sign = Path(sys.argv[1]), int(sys.argv[2]), signal.Signals[sys.argv[3]]
state.INTERVAL = 0.0  # save after every step
recipe = "r={batch: 100, epochs: 2, rate: [[0, 1.0e-3]], ramp: [[0, 0], [12, 1]], steps: 1, step_size: 0.1}"
command = ["train", "--dataset", "digits", "--model", "small", "--method", "adv={kind: standard, attacked: true}"]

def start(output):
    child = os.fork()
    if not child:
        for number in (1, 2):
            os.dup2(os.open(folder / "messages", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        try:
            code = main([*command, "--recipe", recipe, "--output", str(output)])
        except SystemExit as stop:
            code = stop.code
        os._exit(code)
    return child

begin = time.monotonic()
os.waitpid(start(folder / "whole.safetensors"), 0)
lasted = time.monotonic() - begin
whole, pauses, found = (folder / "whole.safetensors").read_bytes(), random.Random(0), []
for number in range(kills):
    output = folder / str(number) / "net.safetensors"
    output.parent.mkdir()
    child = start(output)
    time.sleep(pauses.uniform(0, lasted))
    asked = time.monotonic()
    os.kill(child, sign)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stopped = time.monotonic() - asked
    half = output.exists() and output.read_bytes() != whole
    saved = bool(list(output.parent.glob(".state/*/state.safetensors")))
    again = os.waitstatus_to_exitcode(os.waitpid(start(output), 0)[1])
    same = output.exists() and output.read_bytes() == whole
    found.append({"ended": ended, "stopped": stopped, "half": half, "saved": saved, "again": again, "same": same})
print(json.dumps(found))
"""


@pytest.mark.parametrize(("sign", "codes"), [("SIGKILL", {-9, 0}), ("SIGTERM", {143, -15, 0})])
def test_training_killed_at_any_time_resumes_to_the_same_bytes(tmp_path: Path, sign: str, codes: set[int]) -> None:
    """A kill before the trainer listens ends it at once (-15), one after its end finds it gone (0)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER, str(tmp_path), str(KILLS), sign]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == KILLS
    assert {kill["ended"] for kill in found} <= codes
    assert [kill for kill in found if kill["again"] or kill["half"] or not kill["same"]] == []
    assert max(kill["stopped"] for kill in found) < 10
    assert sum(kill["saved"] for kill in found) > KILLS / 4  # most kills fell into the training itself
