"""Damaged files, impossible paths and wrong attacks: one line that names the file or the attack."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from command_line import METADATA
from made_batches import DIGIT_SHAPE, evaluate_attack, make_digit_batch
from safetensors.torch import save_file

from irpipe.attacks import AttackOutput
from irpipe.errors import IrpipeError
from irpipe.files import ensure_writable, read_or_explain
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint
from irpipe.networks.released import read_released
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.training_log import read_training_log

RESULT = Result(
    {"dataset": "mnist", "options": {"eps": [0.1]}}, {"correct": np.array([[True, False]])}
)


def refused(path: Path, message: str = "") -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that begins with the path."""
    return pytest.raises(IrpipeError, match=rf"\A{re.escape(str(path))}: {message}[^\n]*\Z")


@pytest.mark.parametrize("content", [[()], [[]], [([[1], [1, 2]], 1)]])
def test_pickles_of_odd_lists_are_refused(tmp_path: Path, content: list[object]) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps(content))
    with refused(path):
        read_released(path, "mnist", {"kind": "mnist"}, "small", "int")


@pytest.mark.parametrize("header", ["5", "null", '"x"'])
def test_metadata_that_are_no_mapping_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"head": torch.zeros(1)}, str(path), metadata={"irpipe": header})
    with refused(path):
        read_checkpoint(path)


@pytest.mark.parametrize("key", METADATA)
@pytest.mark.parametrize("value", [5, None, {"kind": 5}, {}])
def test_metadata_that_name_no_network_are_refused(key: str, value: object) -> None:
    checkpoint = Checkpoint(METADATA | {key: value}, {})
    message = rf"\Anet: holds no network \(its metadata lack {key}\)\Z"
    with pytest.raises(IrpipeError, match=message):
        checkpoint.identity(Path("net"))


def test_metadata_of_a_network_are_its_identity() -> None:
    assert Checkpoint(METADATA, {}).identity(Path("net")) == METADATA
    with pytest.raises(IrpipeError, match=r"lack dataset, model, method, run, data\)"):
        Checkpoint({}, {}).identity(Path("net"))


def test_a_missing_file_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    with refused(tmp_path / "x", r"no such file; expected an irpipe result \(HDF5\)"):
        read_result(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "read", "message"),
    [
        (b"", read_training_log, r"irpipe training log \(CSV\) \(no line of an epoch\)"),
        (
            b"12345678",
            read_checkpoint,
            r"irpipe checkpoint \(safetensors\) \(Error while deser[^\n]+\)",
        ),
    ],
)
def test_the_reason_of_a_library_is_repeated(
    content: bytes, read: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    pattern = rf"\A{re.escape(str(path))}: not a readable {message}; make it again\Z"
    with pytest.raises(IrpipeError, match=pattern):
        read(path)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(), "RuntimeError"),
        (KeyError(), "KeyError"),
        (ValueError("a\nb"), "a"),
    ],
)
def test_a_reason_is_one_line(error: Exception, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch()
    message = rf"\A{re.escape(str(path))}: not a readable file \({reason}\); make it again\Z"
    with pytest.raises(IrpipeError, match=message):
        read_or_explain(path, "file", Mock(side_effect=error))


def test_a_result_that_reads_back_differently_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irpipe.results.result.read_result", lambda path: Result({}, {}))
    reason = "reads back differently from what was written"
    with refused(tmp_path / "r.h5", rf"cannot be written \({reason}\); nothing was changed"):
        write_result(tmp_path / "r.h5", RESULT)
    assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with refused(tmp_path, "is a folder"):
        write_result(tmp_path, RESULT)
    message = f"cannot be written, {re.escape(str(file))} is no folder that may be written to"
    with refused(file / "x.h5", message):
        write_result(file / "x.h5", RESULT)
    ensure_writable(tmp_path / "new" / "x.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("shape", [(3, *DIGIT_SHAPE), (1, 3, *DIGIT_SHAPE), (2, 1, *DIGIT_SHAPE)])
def test_attacks_whose_images_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    """One image for all, or no eps axis, must not be scored as if it were an attack at each eps."""
    kind = SimpleNamespace(
        __name__="mine", attack=lambda batch, *, eps: iter([AttackOutput(1, torch.zeros(shape))])
    )
    message = r"attack mine: yielded images of shape .*, not \(2, 3, 1, 28, 28\)"
    with pytest.raises(RuntimeError, match=message):
        evaluate_attack(make_digit_batch(3), kind, [0.0, 0.1, 0.3])
