"""Damaged or foreign files and impossible places: one line that names the file, before anything is run or lost."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from irpipe import io
from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.errors import IrpipeError
from irpipe.evaluate import _run
from irpipe.io import Checkpoint, Result, read_checkpoint, read_log, read_result, writable, write_result
from irpipe.models import Folded, build
from irpipe.optimise import draw_weights
from irpipe.released import convert

RESULT = Result({"dataset": "mnist", "spec": {"eps": [0.1]}}, {"correct": np.array([[True, False]])})


def refused(path: Path, message: str = "") -> pytest.RaisesExc[IrpipeError]:
    return pytest.raises(IrpipeError, match=rf"\A{path}: {message}[^\n]*\Z")


@pytest.mark.parametrize("content", [[()], [[]], [([[1], [1, 2]], 1)]])
def test_pickles_of_odd_lists(tmp_path: Path, content: list[object]) -> None:
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps(content))
    with refused(path):
        convert(path, "mnist", {"kind": "mnist"}, "small", "int")


@pytest.mark.parametrize("header", ["5", "null", '"x"'])
def test_metadata_that_are_no_mapping(tmp_path: Path, header: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"head": torch.zeros(1)}, str(path), metadata={"irpipe": header})
    with refused(path):
        read_checkpoint(path)


def test_metadata_that_name_no_network() -> None:
    about = {"dataset": "mnist", "data": {"kind": "mnist"}, "model": "small", "method": "int", "run": "seed0"}
    assert Checkpoint(about, {}).identity(Path("net")) == about
    for key in about:
        for wrong in ({key: 5}, {key: None}, {key: {"kind": 5}}, {key: {}}):
            with pytest.raises(IrpipeError, match=rf"\Anet: holds no network \(its metadata lack {key}\)\Z"):
                Checkpoint(about | wrong, {}).identity(Path("net"))
    with pytest.raises(IrpipeError, match=r"lack dataset, model, method, run, data\)"):
        Checkpoint({}, {}).identity(Path("net"))


def test_reasons_are_given(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with refused(path, r"no such file; expected an irpipe result \(HDF5\)"):
        read_result(path)
    for content, read, message in (
        (b"", read_log, r"irpipe training log \(CSV\) \(no line of an epoch\); make it again"),
        (b"12345678", read_checkpoint, r"irpipe checkpoint \(safetensors\) \(Error while deser[^\n]+\); make it again"),
    ):
        path.write_bytes(content)
        with pytest.raises(IrpipeError, match=rf"\A{path}: not a readable {message}\Z"):
            read(path)
    for error, reason in ((RuntimeError(), "RuntimeError"), (KeyError(), "KeyError"), (ValueError("a\nb"), "a")):
        with pytest.raises(IrpipeError, match=rf"\A{path}: not a readable file \({reason}\); make it again\Z"):
            io._read(path, "file", Mock(side_effect=error))


def test_what_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "read_result", lambda path: Result({}, {}))
    message = r"cannot be written \(reads back differently from what was written\); nothing was changed"
    with refused(tmp_path / "r.h5", message):
        write_result(tmp_path / "r.h5", RESULT)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = f"cannot be written, {tmp_path / 'file'} is no folder that may be written to"
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.h5", message)):
        with refused(path, said):
            write_result(path, RESULT)
    writable(tmp_path / "new" / "x.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (1, 3, 1, 28, 28), (2, 1, 1, 28, 28)])
def test_attacks_whose_images_would_broadcast_are_refused(shape: tuple[int, ...]) -> None:
    """One image for all, or no radius axis, must not be scored as if it were an attack at each radius."""
    network = build("small", (1, 28, 28), 10)
    draw_weights(network, np.random.RandomState(0))
    case = Case(
        network,
        Folded(network, (1, 28, 28)),
        torch.rand(3, 1, 28, 28),
        torch.arange(3),
        np.arange(3),
        np.random.RandomState(0),
    )
    spec = {"kind": "mine", "eps": [0.0, 0.1, 0.3]}
    with pytest.raises(RuntimeError, match=r"attack mine: gave images of shape .*, not \(2, 3, 1, 28, 28\)"):
        _run(case, SimpleNamespace(attack=lambda case, *, eps: iter([Outcome(1, torch.zeros(shape))])), spec)
