"""Checkpoints, results and released networks: whole and verified, or one line that names the file."""

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from irpipe import released
from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint, Result, read_checkpoint, read_result, replacing, write_checkpoint, write_result

CHECKPOINT = Checkpoint(
    {"dataset": "mnist", "data": {"kind": "mnist"}, "model": "small", "method": "int", "run": "seed0", "näme": [1.5]},
    {"head": torch.arange(6.0).reshape(2, 3) / 7, "trunk.bias": torch.tensor([-1.0, 1e-30])},
)
RESULT = Result(
    {"dataset": "mnist", "spec": {"eps": [0.1, 8 / 255], "relative": None}, "ünit": "ε", "seed": 99},
    {
        "correct": np.array([[True, False], [False, True]]),
        "loss": np.linspace(0, 1, 512).reshape(2, 256).astype(np.float32),
        "index": np.arange(3),
        "none": np.zeros((0, 4)),
    },
)
KINDS: dict[str, tuple[Callable[..., None], Callable[[Path], Any], Any]] = {
    "checkpoint.safetensors": (write_checkpoint, read_checkpoint, CHECKPOINT),
    "result.h5": (write_result, read_result, RESULT),
}
both = pytest.mark.parametrize("name", KINDS)


def written(name: str, folder: Path) -> Path:
    KINDS[name][0](folder / name, KINDS[name][2])
    return folder / name


def refused(path: Path, message: str = "") -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that begins with the path."""
    return pytest.raises(IrpipeError, match=rf"\A{path}: {message}[^\n]*\Z")


# --- round trips -----------------------------------------------------------------------------------------


def test_result_comes_back(tmp_path: Path) -> None:
    found = read_result(written("result.h5", tmp_path / "a" / "b"))
    assert found.attrs == RESULT.attrs
    assert found.arrays.keys() == RESULT.arrays.keys()
    assert found.sha256 == hashlib.sha256((tmp_path / "a" / "b" / "result.h5").read_bytes()[512:]).hexdigest()
    for name, array in RESULT.arrays.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found.arrays[name], array)


def test_checkpoint_comes_back(tmp_path: Path) -> None:
    found = read_checkpoint(written("checkpoint.safetensors", tmp_path))
    assert (found.metadata, found.sha256) == (CHECKPOINT.metadata, CHECKPOINT.sha256)
    assert found.tensors.keys() == CHECKPOINT.tensors.keys()
    for name, tensor in CHECKPOINT.tensors.items():
        assert torch.equal(found.tensors[name], tensor)


def test_identity_of_a_network_depends_on_every_weight_and_its_origin() -> None:
    others = [
        Checkpoint(CHECKPOINT.metadata | {"run": "seed1"}, CHECKPOINT.tensors),
        Checkpoint(CHECKPOINT.metadata, CHECKPOINT.tensors | {"head": CHECKPOINT.tensors["head"] + 1e-7}),
        Checkpoint(CHECKPOINT.metadata, CHECKPOINT.tensors | {"head": CHECKPOINT.tensors["head"].reshape(3, 2)}),
    ]
    assert len({CHECKPOINT.sha256, *(other.sha256 for other in others)}) == 4
    assert Checkpoint(CHECKPOINT.metadata, dict(reversed(CHECKPOINT.tensors.items()))).sha256 == CHECKPOINT.sha256


@both
def test_equal_content_is_equal_bytes(name: str, tmp_path: Path) -> None:
    """In whatever order a mapping was filled."""
    write, _, content = KINDS[name]
    where = "attrs" if name == "result.h5" else "metadata"
    orders = [{"c": {"x": 1, "y": 2, "z": 3}}, {"c": {"z": 3, "y": 2, "x": 1}}]
    for folder, more in zip("ab", orders, strict=True):
        write(tmp_path / folder / name, replace(content, **{where: getattr(content, where) | more}))
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


# --- broken files ------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 1.0])
def test_truncated(name: str, share: float, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(int(share * len(whole)), len(whole) - 1)])
    with refused(path, "(not a readable irpipe |cut short or damaged)"):
        KINDS[name][1](path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("checkpoint.safetensors", CHECKPOINT.tensors["head"].numpy().tobytes()),
        ("checkpoint.safetensors", b"seed0"),
        ("result.h5", RESULT.arrays["loss"].tobytes()),
        ("result.h5", RESULT.arrays["correct"].tobytes()),
    ],
)
def test_flipped_byte(name: str, data: bytes, tmp_path: Path) -> None:
    path = written(name, tmp_path)
    whole = path.read_bytes()
    assert whole.count(data) >= 1
    at = whole.index(data) + len(data) - 1
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with refused(path, "(cut short or damaged, its )?content does not match its SHA-256; make it again"):
        KINDS[name][1](path)


@both
def test_missing_or_not_a_file(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with refused(path, "no such file; expected an irpipe"):
            KINDS[name][1](path)


@both
def test_foreign(name: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    read = KINDS[name][1]
    for content in (b"", b"\x80\x04.", b"PK\x03\x04" + bytes(100), b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(content)
        with refused(path, "(not a readable irpipe |cut short or damaged)"):
            read(path)


def test_foreign_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "foreign.h5"
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


def test_foreign_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file(CHECKPOINT.tensors, path, metadata=metadata)
        with refused(path, r"a safetensors file, but not an irpipe checkpoint \(no irpipe metadata\)"):
            read_checkpoint(path)
    for header in ("{}", "[]", "not JSON"):
        save_file(CHECKPOINT.tensors, path, metadata={"irpipe": header})
        with refused(path):
            read_checkpoint(path)


# --- failed writes -----------------------------------------------------------------------------------------


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_result(tmp_path / "r.h5", Result({"a": object()}, {}))
    with pytest.raises(TypeError):
        write_result(tmp_path / "r.h5", Result({}, {"a": np.array([object()])}))
    assert not list(tmp_path.iterdir())


def test_replacing_replaces_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as beside:
        beside.write_text("new")
        assert not path.exists()
        assert beside.parent == path.parent
    assert path.read_text() == "new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("newer")
        raise KeyboardInterrupt
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


# --- released networks ---------------------------------------------------------------------------------------


class Evil:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def imported(path: Path, model: str = "small", dataset: str = "mnist") -> Checkpoint:
    return released.convert(path, dataset, {"kind": dataset}, model, "int")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["system", "eval", "memmap", "load"])
def test_evil_pickles_are_refused_before_they_run(name: str, protocol: int, tmp_path: Path) -> None:
    touched, path = tmp_path / "touched", tmp_path / "evil.pkl"
    evil = {
        "system": Evil(os.system, f"touch {touched}"),
        "eval": Evil(eval, f"open({str(touched)!r}, 'w').close()"),
        "memmap": Evil(np.memmap, str(touched), "uint8", "w+", 0, 1),
        "load": Evil(np.load, str(touched)),
    }[name]
    path.write_bytes(pickle.dumps([(0.5, evil)], protocol))
    with refused(path, rf"asks for [a-z_]+\.{name}; released networks hold numpy arrays only, so it was not run"):
        imported(path)
    assert not touched.exists()
    if name != "load":  # where they are trusted, they do run
        pickle.loads(path.read_bytes())
        assert touched.exists()


@pytest.fixture(scope="module")
def networks(shared: Path) -> Path:
    return shared / "released" / "networks"


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.4, 0.99, 1.0])
def test_truncated_pickle(share: float, networks: Path, tmp_path: Path) -> None:
    whole = (networks / "mnist_smallgap_int_100.pkl").read_bytes()
    path = tmp_path / "cut.pkl"
    path.write_bytes(whole[: min(int(share * len(whole)), len(whole) - 1)])
    with refused(path, "not a readable network"):
        imported(path)


@pytest.mark.parametrize("content", [{"a": 1}, 5, [], [(np.zeros((4, 4, 1, 16), "f"), np.zeros(16, "f"))], [1, 2]])
def test_pickles_of_something_else(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content, 3).replace(b"numpy._core", b"numpy.core"))
    with refused(
        path, "(expected a list of .* pairs; found|not a readable network|has 0 convolutions; model small has 3)"
    ):
        imported(path)


def test_wrong_model_or_data_set(networks: Path) -> None:
    path = networks / "mnist_smallgap_int_100.pkl"
    with refused(path, "has 3 convolutions; model pool has 2, then a head"):
        imported(path, "pool")
    with refused(path, r"trunk\.0\.weight is \(16, 1, 4, 4\); model small wants \(16, 3, 4, 4\)"):
        imported(path, "small", "cifar10")


@pytest.mark.parametrize(
    ("file", "dataset", "model", "layers"),
    [
        ("mnist_smallgap_int_100", "mnist", "small", [(4, 1, 16), (4, 16, 32), (7, 32, 100)]),
        ("mnist_pool_int_100", "mnist", "pool", [(5, 1, 32), (5, 32, 64)]),
        ("cifar_wresnet_int_200", "cifar10", "wresnet", [(3, 3, 16)] + [(3, 16, 16)] * 10 + [(3, 16, 32)]),
    ],
)
def test_released_networks(
    file: str, dataset: str, model: str, layers: list[tuple[int, int, int]], networks: Path, tmp_path: Path
) -> None:
    path = networks / f"{file}.pkl"
    checkpoint = imported(path, model, dataset)
    kept = [tensor for name, tensor in checkpoint.tensors.items() if tensor.ndim == 4]
    assert [tuple(tensor.shape) for tensor in kept[: len(layers)]] == [(o, i, k, k) for k, i, o in layers]
    with path.open("rb") as handle:
        raw = [layer for layer in pickle.load(handle, encoding="latin1") if np.ndim(layer[0]) == 4]
    assert [len(layer) for layer in raw] == [2] * len(kept) + [1]
    biases = [tensor for tensor in checkpoint.tensors.values() if tensor.ndim == 1]
    for ours, bias, (weight, theirs) in zip(kept, biases, raw[:-1], strict=True):
        assert ours[-1, 0, 2, 1].item() == weight[2, 1, 0, -1]  # out, in, row, column from row, column, in, out
        assert bias.tolist() == theirs.tolist()
    assert np.array_equal(checkpoint.tensors["head"].numpy(), raw[-1][0][0, 0].T)
    assert all(tensor.isfinite().all() for tensor in checkpoint.tensors.values())
    write_checkpoint(tmp_path / "net.safetensors", checkpoint)
    assert read_checkpoint(tmp_path / "net.safetensors").sha256 == checkpoint.sha256
    assert (checkpoint.metadata["run"], checkpoint.metadata["file"]) == ("released", path.name)
