"""Damaged or foreign files and impossible places: one line that names the file, before anything is run or lost."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from irpipe.ascent import Case
from irpipe.attacks import Outcome
from irpipe.errors import IrpipeError
from irpipe.evaluate import _run
from irpipe.io import Result, read_checkpoint, read_result, writable, write_result
from irpipe.models import Folded, build
from irpipe.optimise import draw_weights
from irpipe.released import convert

RESULT = Result({"dataset": "mnist", "spec": {"eps": [0.1]}}, {"correct": np.array([[True, False]])})


def refused(path: Path, message: str = "") -> pytest.RaisesExc[IrpipeError]:
    return pytest.raises(IrpipeError, match=rf"\A{path}: {message}[^\n]*\Z")


def test_every_flipped_byte_of_a_result_is_refused_before_hdf5_sees_it(tmp_path: Path) -> None:
    """Some flips would crash or hang the HDF5 library (seen at offsets behind the superblock)."""
    path = tmp_path / "result.h5"
    write_result(path, RESULT)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        with refused(path):
            read_result(path)


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


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "file" / "x.h5", "cannot be written")):
        with refused(path, message):
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
