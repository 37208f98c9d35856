"""Every file that is read, cut and with single bytes changed: one line, or an equal read."""

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
from command_line import METADATA
from PIL import Image

from irpipe import config, datasets
from irpipe.config import yaml_reader
from irpipe.errors import IrpipeError
from irpipe.files import content_sha256
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.networks.released import read_released, released_sha256
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.training_log import read_training_log, write_training_log
from irpipe.results.verify import find_damaged, write_checksums

# Single bytes that are changed in each file. `make test-faults` asks for 1,000.
N_CHANGES = int(os.environ.get("IRPIPE_CHANGES") or 200)
MAX_SECONDS = 5.0
MAX_EXTRA_KIB = 500_000
NETWORK = {key: METADATA[key] for key in ("dataset", "model", "method", "run")}
LOG_METADATA = NETWORK | {"device": "cpu, one", "code_hash": "ab"}
LOG = [{"epoch": epoch, "loss": 1 / 3 / epoch, "seconds": 0.5} for epoch in (1, 2, 3)]


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """No test may take more than half a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_EXTRA_KIB


def write_network(path: Path) -> None:
    head = torch.linspace(0, 1, 120).reshape(10, 12)
    tensors = {"head": head, "backbone.0.bias": torch.tensor([-1.0, 1e-30])}
    write_checkpoint(path, Checkpoint(METADATA, tensors))


def write_state(path: Path) -> None:
    metadata = {
        "progress": {"step": 3, "total": 1.5},
        "step_count": 3,
        "log": LOG,
        "generator": ["MT19937", 1, 0, 0.0],
    }
    tensors = {"generator": torch.arange(624), "weight head": torch.ones(2, 3)}
    write_checkpoint(path, Checkpoint(metadata, tensors))


def write_small_result(path: Path) -> None:
    arrays = {
        "correct": np.array([[[True], [False]]]),
        "eps": np.array([0, 0.1]),
        "steps": np.array([10]),
    }
    write_result(path, Result(NETWORK | {"attack": "pgd", "kind": "pgd"}, arrays))


def write_log(path: Path) -> None:
    write_training_log(path, LOG_METADATA, LOG)


def content_hash(content: Checkpoint | Result) -> str:
    """Hash of all that was read."""
    if isinstance(content, Checkpoint):
        return content.sha256
    return content_sha256(content.attrs, content.arrays)


# File name: the function that writes it and the function that reads it.
FORMATS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "network.safetensors": (write_network, read_checkpoint),
    "state.safetensors": (write_state, read_checkpoint),
    "result.h5": (write_small_result, read_result),
    "training_log.csv": (write_log, read_training_log),
}
every_format = pytest.mark.parametrize("name", FORMATS)


def with_changed_bytes(content: bytes, count: int) -> Iterator[bytes]:
    """Copies of a file with another value in one byte, a third of them in the first kilobyte."""
    rng = random.Random(0)
    for k in range(count):
        index = rng.randrange(min(len(content), 1000) if k % 3 == 0 else len(content))
        value = content[index] ^ rng.randrange(1, 256)
        yield content[:index] + bytes([value]) + content[index + 1 :]


def cut(content: bytes) -> Iterator[bytes]:
    """Copies of a file cut at 20 positions.

    A tail that was never written to disk is missing, or reads as zeros, or one byte of it is left.
    """
    ends = sorted({*(len(content) * share // 20 for share in range(20)), len(content) - 1})
    assert len(ends) > 20 - (len(content) < 40)
    for end in ends:
        start = content[:end]
        yield from {start, start.ljust(len(content), b"\0"), start + content[:1]} - {content}


def read_or_none(path: Path, read: Callable[[Path], Any]) -> Any:
    """What a damaged file reads as, or None if it is refused in one line and in time."""
    begin = time.thread_time()
    try:
        return read(path)
    except IrpipeError as error:
        assert str(error).startswith(str(path)), error
        assert str(error).isprintable()
        return None
    finally:
        assert time.thread_time() - begin < MAX_SECONDS


@every_format
def test_files_cut_anywhere_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write, read = FORMATS[name]
    write(path)
    read(path)
    for content in cut(path.read_bytes()):
        path.write_bytes(content)
        assert read_or_none(path, read) is None, (len(content), content[-9:])


@every_format
def test_files_with_a_changed_byte_are_refused_or_read_equal(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write, read = FORMATS[name]
    write(path)
    expected_hash = content_hash(read(path))
    n_refused = 0
    for content in with_changed_bytes(path.read_bytes(), N_CHANGES):
        path.write_bytes(content)
        damaged = read_or_none(path, read)
        n_refused += damaged is None
        assert damaged is None or content_hash(damaged) == expected_hash
    assert n_refused > 0.95 * N_CHANGES


@pytest.mark.parametrize("name", ["table_3.csv", "figures/3.png", "table_3.sha256"])
def test_damaged_tables_figures_and_checksum_files_are_found(name: str, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    files = [tmp_path / "table_3.csv", tmp_path / "figures" / "3.png"]
    files[0].write_bytes(b"method,n\n" + b"int,200\n" * 9)
    files[1].write_bytes(bytes(range(256)))
    checksum_file = tmp_path / "table_3.sha256"
    write_checksums(checksum_file, files)
    command = ["sha256sum", "--check", "--status", checksum_file.name]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert find_damaged(tmp_path) == {}
    path = tmp_path / name
    content = path.read_bytes()
    for damaged in [*cut(content), *with_changed_bytes(content, N_CHANGES)]:
        path.write_bytes(damaged)
        assert list(find_damaged(tmp_path)) == [path]
    path.unlink()
    # Without a checksum file, the workflow makes the table again.
    assert list(find_damaged(tmp_path)) == ([] if path == checksum_file else [path])


def test_a_log_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "training_log.csv"
    write_log(path)
    log = read_training_log(path)
    assert log.arrays.keys() == {"epoch", "loss", "seconds"}
    assert log.arrays["loss"].tolist() == [1 / 3, 1 / 6, 1 / 9]
    assert log.attrs == LOG_METADATA | {"attack": "training", "kind": "training of int"}
    assert b"\r" not in path.read_bytes()


def test_a_log_without_some_lines_is_refused(tmp_path: Path) -> None:
    """A CSV that is cut at the end of a line looks complete; the SHA-256 of all lines tells."""
    path = tmp_path / "training_log.csv"
    write_log(path)
    header, *epochs = path.read_bytes().splitlines(keepends=True)
    for remaining in (
        epochs[:2],
        [],
        epochs[1:],
        [*epochs, epochs[2]],
        [epochs[1], epochs[0], epochs[2]],
    ):
        path.write_bytes(b"".join([header, *remaining]))
        assert read_or_none(path, read_training_log) is None


def test_a_log_of_one_epoch_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "training_log.csv"
    write_training_log(path, LOG_METADATA, LOG[:1])
    arrays = read_training_log(path).arrays
    columns = {name: array.tolist() for name, array in arrays.items()}
    assert columns == {name: [value] for name, value in LOG[0].items()}


def test_configs_with_a_changed_byte_are_refused_or_valid(tmp_path: Path) -> None:
    """Another number is another config, which nothing in the file can tell."""
    path = tmp_path / "config.yaml"
    for file in sorted(config.CONFIG_FOLDER.glob("*.yaml"))[:2]:
        for content in with_changed_bytes(file.read_bytes(), N_CHANGES // 2):
            path.write_bytes(content)
            checked = read_or_none(
                path, lambda p: config.validate(yaml_reader.read_yaml(p), str(p))
            )
            assert checked is None or config.validate(checked) == checked


@pytest.mark.parametrize("name", ["mnist_smallgap_int_100.pkl", "other.pkl"])
def test_released_networks_with_a_changed_byte(name: str, shared: Path, tmp_path: Path) -> None:
    """A file with a released name must have the released bytes; others may have any weights."""
    path = tmp_path / name
    original = shared / "released" / "networks" / "mnist_smallgap_int_100.pkl"
    is_other = name == "other.pkl"
    for content in with_changed_bytes(original.read_bytes(), N_CHANGES if is_other else 30):
        path.write_bytes(content)
        network = read_or_none(
            path, lambda p: read_released(p, "mnist", {"kind": "mnist"}, "small", "int")
        )
        if is_other and network:
            assert network.metadata["file_sha256"] not in released_sha256().values()
            assert all(tensor.isfinite().all() for tensor in network.tensors.values())
        else:
            assert network is None


def load_or_none(kind: str, path: Path, root: Path) -> datasets.Images | None:
    """The test images of a data set below `root`, or None if its file at `path` is refused."""

    def load(_: Path) -> datasets.Images:
        images = datasets.load({"kind": kind}, root, "test")
        return datasets.Images(
            images.images[:], images.labels
        )  # from the files, if they stay there

    images: datasets.Images | None = read_or_none(path, load)
    return images


def test_mnist_with_a_changed_byte_is_refused(shared: Path, tmp_path: Path) -> None:
    source = shared / "datasets" / "MNIST" / "raw"
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    (folder / images).symlink_to(source / images)
    for content in with_changed_bytes((source / labels).read_bytes(), N_CHANGES):
        (folder / labels).write_bytes(content)
        assert load_or_none("mnist", folder / labels, tmp_path) is None


def test_cifar10_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    """No real data is needed: every file is refused that is not the published one."""
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.parent.mkdir()
    zeros = bytes(10_000 * 3073)
    for index in (0, 3073, len(zeros) - 1):
        path.write_bytes(zeros[:index] + b"\1" + zeros[index + 1 :])
        assert load_or_none("cifar10", path, tmp_path) is None


def test_an_image_of_imagenet_with_a_changed_byte_changes_the_hash(tmp_path: Path) -> None:
    """ImageNet has no published hashes. Another pixel is another data_sha256 in the results."""
    path = tmp_path / "val" / "n02123045" / "cat.JPEG"
    path.parent.mkdir(parents=True)
    pixels = np.random.RandomState(0).randint(256, size=(24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    original = load_or_none("restricted_imagenet", path, tmp_path)
    assert original is not None
    for content in with_changed_bytes(path.read_bytes(), N_CHANGES // 2):
        path.write_bytes(content)
        changed = load_or_none("restricted_imagenet", path, tmp_path)
        if changed is not None:
            is_same = torch.equal(changed.images, original.images)
            assert is_same == (changed.sha256() == original.sha256())
