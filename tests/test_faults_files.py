"""Every file that is read, cut at 20 places and with single bytes changed: one line that names it, or an equal read."""

import os
import random
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from irpipe import config, data, released
from irpipe.errors import IrpipeError
from irpipe.io import (
    Checkpoint,
    Result,
    digest,
    read_checkpoint,
    read_log,
    read_result,
    write_checkpoint,
    write_log,
    write_result,
)
from irpipe.verify import damaged, seal

CHANGES = int(os.environ.get("IRPIPE_CHANGES") or 200)  # of single bytes, to each file; 1,000 in `make test-faults`
SECONDS = 5.0
ABOUT = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "method": "int", "run": "seed0"}
LOG = [{"epoch": number, "loss": 1 / 3 / number, "seconds": 0.5} for number in (1, 2, 3)]


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test may take more than half a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def checkpoint(path: Path) -> None:
    tensors = {"head": torch.linspace(0, 1, 120).reshape(10, 12), "trunk.0.bias": torch.tensor([-1.0, 1e-30])}
    write_checkpoint(path, Checkpoint(ABOUT, tensors))


def state(path: Path) -> None:
    about = {"position": {"step": 3, "total": 1.5}, "taken": 3, "log": LOG, "generator": ["MT19937", 1, 0, 0.0]}
    write_checkpoint(path, Checkpoint(about, {"generator": torch.arange(624), "weight head": torch.ones(2, 3)}))


def result(path: Path) -> None:
    attrs = {key: ABOUT[key] for key in ("dataset", "model", "method", "run")} | {"attack": "pgd", "kind": "pgd"}
    arrays = {"correct": np.array([[[True], [False]]]), "eps": np.array([0, 0.1]), "steps": np.array([10])}
    write_result(path, Result(attrs, arrays))


def log(path: Path) -> None:
    write_log(
        path,
        {key: str(ABOUT[key]) for key in ("dataset", "model", "method", "run")} | {"device": "cpu, one", "code": "ab"},
        LOG,
    )


def seen(found: Checkpoint | Result) -> str:
    """Hash of all that was read."""
    if isinstance(found, Checkpoint):
        return found.sha256
    return digest(found.attrs, found.arrays)


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "network.safetensors": (checkpoint, read_checkpoint),
    "state.safetensors": (state, read_checkpoint),
    "result.h5": (result, read_result),
    "network.csv": (log, read_log),
}
each = pytest.mark.parametrize("name", FILES)


def changed(whole: bytes, count: int) -> Iterator[bytes]:
    """`count` copies of a file, each with another value in one byte, a third of them in the first kilobyte."""
    drawn = random.Random(0)
    for number in range(count):
        at = drawn.randrange(min(len(whole), 1000) if number % 3 == 0 else len(whole))
        yield whole[:at] + bytes([whole[at] ^ drawn.randrange(1, 256)]) + whole[at + 1 :]


def reads(path: Path, read: Callable[[Path], Any]) -> Any:
    """What a damaged file reads as; None if it is refused as it should be, in one line and in time."""
    begin = time.thread_time()
    try:
        return read(path)
    except IrpipeError as error:
        assert str(error).startswith(str(path)), error
        assert str(error).isprintable()
        return None
    finally:
        assert time.thread_time() - begin < SECONDS


def cuts(whole: bytes) -> Iterator[bytes]:
    """A file cut at 20 places; a tail that was never synced is missing, or reads as zeros."""
    ends = sorted({*(len(whole) * share // 20 for share in range(20)), len(whole) - 1})
    assert len(ends) > 20 - (len(whole) < 40)
    for end in ends:
        yield from {whole[:end], whole[:end].ljust(len(whole), b"\0"), whole[:end] + whole[:1]} - {whole}


@each
def test_cut_anywhere_or_with_its_last_blocks_empty(name: str, tmp_path: Path) -> None:
    path, (write, read) = tmp_path / name, FILES[name]
    write(path)
    read(path)
    for content in cuts(path.read_bytes()):
        path.write_bytes(content)
        assert reads(path, read) is None, (len(content), content[-9:])


@pytest.mark.parametrize("name", ["table_3.csv", "figures/3.png", "table_3.sha256"])
def test_tables_figures_and_their_seals_cut_anywhere_are_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    files = [tmp_path / "table_3.csv", tmp_path / "figures" / "3.png"]
    files[0].write_text("method,n\n" + "int,200\n" * 9)
    files[1].write_bytes(bytes(range(256)))
    sealed = tmp_path / "table_3.sha256"
    seal(sealed, files)
    subprocess.run(["sha256sum", "--check", "--status", sealed.name], cwd=tmp_path, check=True)
    assert damaged(tmp_path) == {}
    path = tmp_path / name
    for content in [*cuts(path.read_bytes()), *changed(path.read_bytes(), CHANGES)]:
        path.write_bytes(content)
        assert list(damaged(tmp_path)) == [path]
    path.unlink()
    assert list(damaged(tmp_path)) == ([] if path == sealed else [path])  # without a seal the workflow makes all again


def test_log_without_its_last_line(tmp_path: Path) -> None:
    """Cut at the end of a line, a CSV looks whole: each line's SHA-256 is that of all lines."""
    path = tmp_path / "network.csv"
    log(path)
    found = read_log(path)
    assert found.arrays.keys() == {"epoch", "loss", "seconds"}
    assert found.arrays["loss"].tolist() == [1 / 3, 1 / 6, 1 / 9]
    about = {key: ABOUT[key] for key in ("dataset", "model", "method", "run")} | {"device": "cpu, one", "code": "ab"}
    assert found.attrs == about | {"attack": "training", "kind": "training of int"}
    assert b"\r" not in path.read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (
        lines[:-1],
        lines[:1],
        lines[:1] + lines[2:],
        [*lines, lines[-1]],
        [lines[0], lines[2], lines[1], lines[3]],
    ):
        path.write_bytes(b"".join(kept))
        assert reads(path, read_log) is None


def test_log_of_one_epoch(tmp_path: Path) -> None:
    path = tmp_path / "network.csv"
    write_log(path, dict.fromkeys(("dataset", "model", "method", "run", "device", "code"), "x"), LOG[:1])
    assert {name: column.tolist() for name, column in read_log(path).arrays.items()} == {
        name: [value] for name, value in LOG[0].items()
    }


@each
def test_single_bytes_changed(name: str, tmp_path: Path) -> None:
    path, (write, read) = tmp_path / name, FILES[name]
    write(path)
    whole, expected, refused = path.read_bytes(), seen(read(path)), 0
    for content in changed(whole, CHANGES):
        path.write_bytes(content)
        found = reads(path, read)
        refused += found is None
        assert found is None or seen(found) == expected
    assert refused > 0.95 * CHANGES


def test_single_bytes_of_configs_changed(tmp_path: Path) -> None:
    """Another number is another config; nothing in it can tell. But it is checked as a whole, or refused."""
    path, files = tmp_path / "config.yaml", sorted(config.SHIPPED.glob("*.yaml"))
    for content in (c for file in files[:2] for c in changed(file.read_bytes(), CHANGES // 2)):
        path.write_bytes(content)
        found = reads(path, lambda path: config.check(config.read(path), str(path)))
        assert found is None or config.check(found) == found


@pytest.mark.parametrize("name", ["mnist_smallgap_int_100.pkl", "other.pkl"])
def test_single_bytes_of_a_released_network_changed(name: str, shared: Path, tmp_path: Path) -> None:
    """A released name is read with its own bytes only; of a file by another name every value is the file's."""
    whole, path = (shared / "released" / "networks" / "mnist_smallgap_int_100.pkl").read_bytes(), tmp_path / name
    for content in changed(whole, CHANGES if name == "other.pkl" else 30):
        path.write_bytes(content)
        found = reads(path, lambda path: released.convert(path, "mnist", {"kind": "mnist"}, "small", "int"))
        if name == "other.pkl" and found:
            assert found.metadata["file_sha256"] not in released.official().values()
            assert all(np.isfinite(value.numpy()).all() for value in found.tensors.values())
        else:
            assert found is None


def test_single_bytes_of_mnist_changed(shared: Path, tmp_path: Path) -> None:
    folder, name = tmp_path / "MNIST" / "raw", "t10k-labels-idx1-ubyte"
    folder.mkdir(parents=True)
    whole = (shared / "datasets" / "MNIST" / "raw" / name).read_bytes()
    (folder / name.replace("labels-idx1", "images-idx3")).symlink_to(
        shared / "datasets" / "MNIST" / "raw" / name.replace("labels-idx1", "images-idx3")
    )
    for content in changed(whole, CHANGES):
        (folder / name).write_bytes(content)
        assert reads(folder / name, lambda path: data.load({"kind": "mnist"}, tmp_path, "test")) is None


def test_single_bytes_of_cifar10_changed(tmp_path: Path) -> None:
    """No fixture: every file is refused that is not the published one, so none is needed."""
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.parent.mkdir()
    whole = bytes(10_000 * 3073)
    for at in (0, 3073, len(whole) - 1):
        path.write_bytes(whole[:at] + b"\1" + whole[at + 1 :])
        assert reads(path, lambda path: data.load({"kind": "cifar10"}, tmp_path, "test")) is None


def test_single_bytes_of_an_image_changed(tmp_path: Path) -> None:
    """Images of ImageNet have no published hashes: another pixel is another hash of the data, which results carry."""
    path = tmp_path / "val" / "n02123045" / "cat.JPEG"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.random.RandomState(0).randint(256, size=(24, 24, 3), dtype=np.uint8)).save(path)
    images, whole = data.load({"kind": "restricted_imagenet"}, tmp_path, "test"), path.read_bytes()
    for content in changed(whole, CHANGES // 2):
        path.write_bytes(content)
        found = reads(path, lambda path: data.load({"kind": "restricted_imagenet"}, tmp_path, "test"))
        same = found is not None and torch.equal(found.images, images.images)
        assert found is None or same == (found.sha256() == images.sha256())
