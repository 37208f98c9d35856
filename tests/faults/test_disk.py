"""No space, no permission, other devices, several writers: the old file stays as it was.

The message names the file and the reason.
"""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run

from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.training_log import METADATA_KEYS, read_training_log, write_training_log
from irpipe.training.plan import TrainingPlan
from irpipe.training.resume import ResumableState

# Writes and reads of each process in a race. `make test-faults` asks for 100.
N_WRITES = int(os.environ.get("IRPIPE_RACES") or 20)


def write_value_result(path: Path, value: int) -> None:
    write_result(path, Result({"value": value}, {"x": np.full(9000, value)}))


def write_value_network(path: Path, value: int) -> None:
    write_checkpoint(path, Checkpoint({"value": value}, {"x": torch.full((9000,), float(value))}))


def write_value_log(path: Path, value: int) -> None:
    lines = [{"epoch": epoch, "loss": float(value)} for epoch in range(900)]
    write_training_log(path, dict.fromkeys(METADATA_KEYS, str(value)), lines)


def write_value_table(path: Path, value: int) -> None:
    page = TablePage("T", [SubTable("B", ["a"], [[CellText(str(value))]] * 300)], "")
    write(path.with_suffix(""), page, pd.DataFrame({"value": [value] * 9000}))


def values_of_result(path: Path) -> list[int]:
    result = read_result(path)
    return [result.attrs["value"], *result.arrays["x"].tolist()]


def values_of_network(path: Path) -> list[int]:
    return [int(value) for value in read_checkpoint(path).tensors["x"]]


def values_of_log(path: Path) -> list[int]:
    return [int(value) for value in read_training_log(path).arrays["loss"]]


def values_of_table(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="utf-8").split()[1:]]


# File name: a function that writes a file full of one number, and one that reads all its numbers.
FORMATS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], list[int]]]] = {
    "r.h5": (write_value_result, values_of_result),
    "n.safetensors": (write_value_network, values_of_network),
    "n.csv": (write_value_log, values_of_log),
    "table.csv": (write_value_table, values_of_table),
}
every_format = pytest.mark.parametrize("name", FORMATS)


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond this size. A writer meets a full disk in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal by itself, but not as a child of pytest.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # Python would cut the compiled form of a module that is imported here, and every later import
    # of it would fail: python/cpython, Lib/importlib/_bootstrap_external.py:_write_atomic.
    keeps_bytecode_off, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = keeps_bytecode_off
        signal.signal(signal.SIGXFSZ, handler)


def assert_old_file_stays(path: Path, write_again: Callable[[], None], reason: str) -> None:
    """A write over an old file fails for this reason, leaves no other file and keeps the old."""
    write_value, read_values = FORMATS[path.name]
    write_value(path, 1)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    message = rf"\A{re.escape(str(path))}: cannot be written \({reason}\); nothing was changed\Z"
    with pytest.raises(IrpipeError, match=message):
        write_again()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert set(read_values(path)) == {1}


@every_format
@pytest.mark.parametrize("n_bytes", [0, 100, 5000])
def test_no_space_leaves_the_old_file(name: str, n_bytes: int, tmp_path: Path) -> None:
    def write_again() -> None:
        with file_size_limit(n_bytes):
            FORMATS[name][0](tmp_path / name, 2)

    assert_old_file_stays(tmp_path / name, write_again, "File too large")


@every_format
@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("os.fsync", errno.ENOSPC),
        ("os.fsync", errno.EIO),
        ("pathlib.Path.replace", errno.EXDEV),
        ("tempfile.mkstemp", errno.EACCES),
    ],
)
def test_an_error_of_the_system_leaves_the_old_file(
    name: str, function: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    def write_again() -> None:
        monkeypatch.setattr(function, fail)
        FORMATS[name][0](tmp_path / name, 2)

    assert_old_file_stays(tmp_path / name, write_again, os.strerror(number))


@pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")
@every_format
def test_a_full_or_read_only_disk_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    write_value, read_values = FORMATS[name]
    disk = tmp_path / "small"
    path = disk / name
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k none {disk} 2>/dev/null"):
        pytest.skip("mounts are not allowed here")
    try:
        write_value(path, 1)
        with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
        message = rf"^{re.escape(str(path))}: cannot be written \(No space left on device\)"
        with pytest.raises(IrpipeError, match=message):
            write_value(path, 2)
        assert set(read_values(path)) == {1}
        assert os.system(f"mount -o remount,ro {disk}") == 0
        message = rf"^{re.escape(str(path))}: cannot be written, .* no folder that may be written"
        with pytest.raises(IrpipeError, match=message):
            write_value(path, 2)
        assert set(read_values(path)) == {1}
    finally:
        os.system(f"umount -l {disk}")


def test_a_command_that_cannot_write_ends_with_a_line_and_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.json"
    data = ("data", "--dataset", "d={kind: digits}")
    assert run(*data, "--output", path) == 0
    before = path.read_bytes()
    assert json.loads(before)["images"] == 400
    capsys.readouterr()
    with file_size_limit(10):
        assert run(*data, "--output", path) == 2
    message = f"{path}: cannot be written (File too large); nothing was changed"
    assert capsys.readouterr().err == f"irpipe data: error: {message}\n"
    assert path.read_bytes() == before
    path = tmp_path / f"{'x' * 300}.json"
    assert run(*data, "--output", path) == 2
    assert f"{path}: cannot be written (File name too long)" in capsys.readouterr().err


def test_a_training_that_cannot_write_its_log_writes_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ("--dataset", "d={kind: digits}", "--model", "small")
    method = ("--method", "m={kind: cross_entropy, adversarial: false}")
    recipe = (
        "r={batch_size: 600, epochs: 1, lr: [[0, 0.1]], eps_schedule: [[0, 0]], "
        "inner_steps: 1, inner_step_size: 0.1}"
    )
    path = tmp_path / "new" / "net.safetensors"
    with file_size_limit(100):
        assert run("train", *network, *method, "--recipe", recipe, "--output", path) == 2
    message = f"{path.with_suffix('.csv')}: cannot be written (File too large)"
    assert message in capsys.readouterr().err
    assert not path.exists()


def race(*functions: Callable[[], None]) -> None:
    """Call all functions at once, each in a process of its own. All must end without an error."""
    children = []
    gate, open_gate = os.pipe()
    for function in functions:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os.close(open_gate)
                # This ends when the parent has started all children and closes its end.
                os.read(gate, 1)
                function()
                os._exit(0)
            os._exit(1)
        children.append(child)
    os.close(open_gate)
    os.close(gate)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * len(children)


@every_format
def test_a_reader_finds_a_complete_file_while_others_write_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_value, read_values = FORMATS[name]
    write_value(path, 0)

    def write_often(first: int) -> Callable[[], None]:
        return lambda: [write_value(path, first + k) for k in range(N_WRITES)] and None

    def read_often() -> None:
        for _ in range(N_WRITES):
            assert len(set(read_values(path))) == 1

    if name == "n.safetensors":  # torch's threads do not survive a fork
        threads = [threading.Thread(target=write_often(100 * k)) for k in (1, 2)]
        for thread in threads:
            thread.start()
        read_often()
        for thread in threads:
            thread.join()
    else:
        race(write_often(100), write_often(200), read_often)
    assert len(set(read_values(path))) == 1
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_only_one_of_several_trainers_of_a_network_holds_its_state(tmp_path: Path) -> None:
    """The others end with a line that says so."""
    plan = TrainingPlan("digits", {}, "small", "m", {}, {}, 0, "")
    trainer: Any = SimpleNamespace(plan=plan, data_sha256="", device=torch.device("cpu"))
    reason = "another process is training this network; wait for it or stop it"
    message = re.compile(rf"{re.escape(str(tmp_path))}/\w+: {reason}")

    def start_often() -> None:
        for k in range(N_WRITES):
            try:
                with ResumableState(tmp_path, trainer):
                    # This fails if another process holds the state, too.
                    os.close(os.open(tmp_path / "held", os.O_CREAT | os.O_EXCL))
                    time.sleep(0.001)
                    (tmp_path / "held").unlink()
            except IrpipeError as error:
                assert message.fullmatch(str(error))
                (tmp_path / f"refused.{os.getpid()}.{k}").touch()

    race(*[start_often] * 3)
    assert 0 < len(list(tmp_path.glob("refused.*"))) < 3 * N_WRITES
    assert not list(tmp_path.glob("*/state.safetensors"))
