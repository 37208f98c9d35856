"""Checkpoints and results: they come back as they were, or one line names the damaged file."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from irpipe.errors import IrpipeError
from irpipe.files import atomic_write
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.results.result import USER_BLOCK_BYTES, Result, read_result, write_result

CHECKPOINT = Checkpoint(
    {
        "dataset": "mnist",
        "data": {"kind": "mnist"},
        "model": "small",
        "method": "int",
        "run": "seed0",
        "näme": [1.5],
    },
    {
        "head": torch.arange(6.0).reshape(2, 3) / 7,
        "backbone.bias": torch.tensor([-1.0, 1e-30]),
    },
)
RESULT = Result(
    {
        "dataset": "mnist",
        "options": {"eps": [0.1, 8 / 255], "step_size_factor": None},
        "ünit": "ε",
        "seed": 99,
    },
    {
        "correct": np.array([[True, False], [False, True]]),
        "loss": np.linspace(0, 1, 512).reshape(2, 256).astype(np.float32),
        "indices": np.arange(3),
        "empty": np.zeros((0, 4)),
    },
)
# File name: the function that writes it, the function that reads it, what is written.
FORMATS: dict[str, tuple[Callable[..., None], Callable[[Path], Any], Any]] = {
    "checkpoint.safetensors": (write_checkpoint, read_checkpoint, CHECKPOINT),
    "result.h5": (write_result, read_result, RESULT),
}
both_formats = pytest.mark.parametrize("name", FORMATS)


def write(name: str, folder: Path) -> Path:
    """Write the file with this name; return its path."""
    write_content, _, content = FORMATS[name]
    write_content(folder / name, content)
    return folder / name


def read(path: Path) -> Any:
    """Read a file in the format of its suffix."""
    return read_checkpoint(path) if path.suffix == ".safetensors" else read_result(path)


def refused(path: Path, message: str = "") -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that begins with the path."""
    return pytest.raises(IrpipeError, match=rf"\A{re.escape(str(path))}: {message}[^\n]*\Z")


def test_a_result_comes_back(tmp_path: Path) -> None:
    path = write("result.h5", tmp_path / "a" / "b")
    result = read_result(path)
    assert result.attrs == RESULT.attrs
    assert result.arrays.keys() == RESULT.arrays.keys()
    content = path.read_bytes()[USER_BLOCK_BYTES:]
    assert result.sha256 == hashlib.sha256(content).hexdigest()
    for name, expected in RESULT.arrays.items():
        array = result.arrays[name]
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(array, expected)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write("checkpoint.safetensors", tmp_path))
    assert (checkpoint.metadata, checkpoint.sha256) == (CHECKPOINT.metadata, CHECKPOINT.sha256)
    assert checkpoint.tensors.keys() == CHECKPOINT.tensors.keys()
    for name, expected in CHECKPOINT.tensors.items():
        assert torch.equal(checkpoint.tensors[name], expected)


def test_the_hash_of_a_network_covers_its_metadata_and_every_weight() -> None:
    metadata, tensors = CHECKPOINT.metadata, CHECKPOINT.tensors
    head = tensors["head"]
    others = [
        Checkpoint(metadata | {"run": "seed1"}, tensors),
        Checkpoint(metadata, tensors | {"head": head + 1e-7}),
        Checkpoint(metadata, tensors | {"head": head.reshape(3, 2)}),
    ]
    assert len({CHECKPOINT.sha256, *(other.sha256 for other in others)}) == 4
    in_another_order = Checkpoint(metadata, dict(reversed(tensors.items())))
    assert in_another_order.sha256 == CHECKPOINT.sha256


@both_formats
def test_equal_content_is_equal_bytes(name: str, tmp_path: Path) -> None:
    """The order in which a mapping was filled does not count."""
    write_content, _, content = FORMATS[name]
    field = "attrs" if name == "result.h5" else "metadata"
    orders = [{"c": {"x": 1, "y": 2, "z": 3}}, {"c": {"z": 3, "y": 2, "x": 1}}]
    for folder, extra in zip("ab", orders, strict=True):
        changed = replace(content, **{field: getattr(content, field) | extra})
        write_content(tmp_path / folder / name, changed)
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@both_formats
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 1.0])
def test_a_truncated_file_is_refused(name: str, share: float, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with refused(path, "(not a readable irpipe |cut short or damaged)"):
        read(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("checkpoint.safetensors", CHECKPOINT.tensors["head"].numpy().tobytes()),
        ("checkpoint.safetensors", b"seed0"),
        ("result.h5", RESULT.arrays["loss"].tobytes()),
        ("result.h5", RESULT.arrays["correct"].tobytes()),
    ],
)
def test_a_flipped_bit_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    content = path.read_bytes()
    assert content.count(data) >= 1
    last = content.index(data) + len(data) - 1
    path.write_bytes(content[:last] + bytes([content[last] ^ 1]) + content[last + 1 :])
    message = "(cut short or damaged, its )?content does not match its SHA-256; make it again"
    with refused(path, message):
        read(path)


@both_formats
def test_a_missing_file_or_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    _, read_content, _ = FORMATS[name]
    for path in (tmp_path / "none", tmp_path):
        with refused(path, "no such file; expected an irpipe"):
            read_content(path)


@both_formats
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04.",
        b"PK\x03\x04" + bytes(100),
        b"version https://git-lfs.github.com/spec/v1\n",
    ],
)
def test_a_file_of_another_kind_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with refused(path, "(not a readable irpipe |cut short or damaged)"):
        read(path)


def test_hdf5_of_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("correct", data=np.ones(3))
    with refused(path, "not a readable irpipe result"):
        read_result(path)
    for attribute in ("plain text", 3.5, np.arange(3)):
        with h5py.File(path, "w") as file:
            file.attrs["dataset"] = attribute
        with refused(path):
            read_result(path)
    with h5py.File(path, "w") as file:
        file.create_group("group").create_dataset("correct", data=np.ones(3))
    with refused(path):
        read_result(path)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    message = r"a safetensors file, but not an irpipe checkpoint \(no irpipe metadata\)"
    for metadata in (None, {"format": "pt"}):
        save_file(CHECKPOINT.tensors, path, metadata=metadata)
        with refused(path, message):
            read_checkpoint(path)
    for header in ("{}", "[]", "not JSON"):
        save_file(CHECKPOINT.tensors, path, metadata={"irpipe": header})
        with refused(path):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "result", [Result({"a": object()}, {}), Result({}, {"a": np.array([object()])})]
)
def test_a_result_that_cannot_be_written_leaves_no_file(result: Result, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_result(tmp_path / "r.h5", result)
    assert not list(tmp_path.iterdir())


def test_an_atomic_write_replaces_the_file_at_its_end_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text(encoding="utf-8") == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("newer", encoding="utf-8")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "new"
    assert list(path.parent.iterdir()) == [path]
