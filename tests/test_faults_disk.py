"""No space, no permission, other devices, several writers: the old file stays whole, the message names the place."""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from irpipe.cli import main
from irpipe.errors import IrpipeError
from irpipe.io import (
    Checkpoint,
    Result,
    read_checkpoint,
    read_log,
    read_result,
    write_checkpoint,
    write_log,
    write_result,
)
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.state import State
from irpipe.train import Plan

RACES = int(os.environ.get("IRPIPE_RACES") or 20)  # `make test-faults` asks for 100


def result(path: Path, value: int) -> None:
    write_result(path, Result({"value": value}, {"x": np.full(9000, value)}))


def checkpoint(path: Path, value: int) -> None:
    write_checkpoint(path, Checkpoint({"value": value}, {"x": torch.full((9000,), float(value))}))


def log(path: Path, value: int) -> None:
    about = {key: str(value) for key in ("dataset", "model", "method", "run", "device", "code")}
    write_log(path, about, [{"epoch": k, "loss": float(value)} for k in range(900)])


def table(path: Path, value: int) -> None:
    page = Page("T", [Block("B", ["a"], [[Entry(str(value))]] * 300)], "")
    write(path.with_suffix(""), page, [{"value": value}] * 9000)


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()[1:]]


def value_of(result: Result) -> list[int]:
    return [result.attrs["value"], *result.arrays["x"].tolist()]


FILES: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], list[int]]]] = {
    "r.h5": (result, lambda path: value_of(read_result(path))),
    "n.safetensors": (checkpoint, lambda path: [int(v) for v in read_checkpoint(path).tensors["x"]]),
    "n.csv": (log, lambda path: [int(v) for v in read_log(path).arrays["loss"]]),
    "table.csv": (table, lines),
}
each = pytest.mark.parametrize("name", FILES)


@contextlib.contextmanager
def full(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk is to a writer, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it, but not pytest's children
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def kept(path: Path, name: str, write: Callable[[], None], reason: str) -> None:
    """A write that fails with this reason, leaves nothing and keeps what was there."""
    FILES[name][0](path, 1)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(IrpipeError, match=rf"\A{path}: cannot be written \({reason}\); nothing was changed\Z"):
        write()
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    assert set(FILES[name][1](path)) == {1}


@each
@pytest.mark.parametrize("size", [0, 100, 5000])
def test_no_space(name: str, size: int, tmp_path: Path) -> None:
    def fill() -> None:
        with full(size):
            FILES[name][0](tmp_path / name, 2)

    kept(tmp_path / name, name, fill, "File too large")


@each
@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("fsync", errno.ENOSPC),
        ("fsync", errno.EIO),
        ("replace", errno.EXDEV),
        ("rename", errno.EXDEV),
        ("open", errno.EACCES),
    ],
)
def test_devices_that_refuse(
    name: str, function: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    def attempt() -> None:
        if function in ("replace", "rename"):
            monkeypatch.setattr(Path, "replace", refuse)
        elif function == "open":
            monkeypatch.setattr("tempfile.mkstemp", refuse)
        else:
            monkeypatch.setattr(os, function, refuse)
        FILES[name][0](tmp_path / name, 2)

    kept(tmp_path / name, name, attempt, os.strerror(number))


@pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")
@each
def test_a_disk_that_is_full(name: str, tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k none {mounted} 2>/dev/null"):
        pytest.skip("mounts are not allowed here")
    try:
        FILES[name][0](mounted / name, 1)
        (mounted / "rest").write_bytes(b"")
        with contextlib.suppress(OSError), (mounted / "rest").open("wb") as rest:
            while True:
                rest.write(bytes(4096))
                rest.flush()
        with pytest.raises(IrpipeError, match=rf"^{mounted / name}: cannot be written \(No space left on device\)"):
            FILES[name][0](mounted / name, 2)
        assert set(FILES[name][1](mounted / name)) == {1}
        assert os.system(f"mount -o remount,ro {mounted}") == 0
        with pytest.raises(
            IrpipeError, match=rf"^{mounted / name}: cannot be written, .* no folder that may be written"
        ):
            FILES[name][0](mounted / name, 2)
        assert set(FILES[name][1](mounted / name)) == {1}
    finally:
        os.system(f"umount -l {mounted}")


def test_commands_end_with_a_line_and_not_with_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "digits.json"
    given = ["data", "--dataset", "d={kind: digits}", "--output"]
    assert main([*given, str(record)]) == 0
    before = record.read_bytes()
    capsys.readouterr()
    with full(10):
        assert main([*given, str(record)]) == 2
    said = capsys.readouterr()
    assert said.err == f"irpipe data: error: {record}: cannot be written (File too large); nothing was changed\n"
    assert record.read_bytes() == before
    assert json.loads(before)["images"] == 400
    recipe = "r={batch: 600, epochs: 1, rate: [[0, 0.1]], ramp: [[0, 0]], steps: 1, step_size: 0.1}"
    train = [
        "train",
        "--dataset",
        "d={kind: digits}",
        "--model",
        "small",
        "--method",
        "m={kind: standard, attacked: false}",
    ]
    output = tmp_path / "new" / "net.safetensors"
    with full(100):
        assert main([*train, "--recipe", recipe, "--output", str(output)]) == 2
    assert f"{output.with_suffix('.csv')}: cannot be written (File too large)" in capsys.readouterr().err
    assert not output.exists()
    name = tmp_path / ("x" * 300)
    assert main([*given, str(name)]) == 2
    assert f"{name}: cannot be written (File name too long)" in capsys.readouterr().err


# --- several at a time ---------------------------------------------------------------------------------------------


def race(*runs: Callable[[], None]) -> None:
    """Run all at once, in processes of their own; all must end well."""
    children = []
    gate, opened = os.pipe()
    for run in runs:
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                os.close(opened)
                os.read(gate, 1)  # ends when the parent has started all and closes its end
                run()
                os._exit(0)
            os._exit(1)
        children.append(child)
    os.close(opened)
    os.close(gate)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(children)


@each
def test_writers_of_one_file(name: str, tmp_path: Path) -> None:
    """Whoever reads meanwhile finds one writer's file, whole, and so do all in the end."""
    path, (write, read) = tmp_path / name, FILES[name]
    write(path, 0)

    def write_often(first: int) -> Callable[[], None]:
        return lambda: [write(path, first + k) for k in range(RACES)] and None

    def read_often() -> None:
        for _ in range(RACES):
            assert len(set(read(path))) == 1

    if name == "n.safetensors":  # torch's threads do not survive a fork
        threads = [threading.Thread(target=write_often(100 * k)) for k in (1, 2)]
        [thread.start() for thread in threads]
        read_often()
        [thread.join() for thread in threads]
    else:
        race(write_often(100), write_often(200), read_often)
    assert len(set(read(path))) == 1
    assert [file for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_trainers_of_one_network(tmp_path: Path) -> None:
    """Of several that start at once, one holds the state; the others end with a line that says so."""
    plan = Plan("digits", {}, "small", "m", {}, {}, 0, "")
    trainer: Any = SimpleNamespace(plan=plan, data_sha256="", where=torch.device("cpu"))
    refused = re.compile(rf"{tmp_path}/\w+: another process is training this network; wait for it or stop it")

    def start_often() -> None:
        for number in range(RACES):
            try:
                with State(tmp_path, trainer):
                    os.close(os.open(tmp_path / "held", os.O_CREAT | os.O_EXCL))  # fails if another holds it, too
                    time.sleep(0.001)
                    (tmp_path / "held").unlink()
            except IrpipeError as error:
                assert refused.fullmatch(str(error))
                (tmp_path / f"refused.{os.getpid()}.{number}").touch()

    race(*[start_often] * 3)
    assert 0 < len(list(tmp_path.glob("refused.*"))) < 3 * RACES
    assert not list(tmp_path.glob("*/state.safetensors"))
