"""MNIST is that of its original files, with the released code's rounding (C.1)."""

import gzip
import hashlib
import re
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from dataset_checks import assert_sound, load, refused

from irpipe.datasets._torchvision import torchvision

TEST_FILES = {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"}


def test_pixels_and_labels_are_those_of_the_files(shared: Path) -> None:
    data = load("mnist", shared / "datasets")
    assert_sound(data, "mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert data.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    path = shared / "datasets" / "MNIST" / "raw" / TEST_FILES["images"]
    levels = np.fromfile(path, np.uint8)[16:].reshape(-1, 1, 28, 28)
    pixels = levels.astype(np.float32) / np.float32(255)
    assert np.array_equal(data.images.numpy(), pixels - np.float32(0.5) + np.float32(0.5))
    assert not np.array_equal(data.images.numpy(), pixels)  # So the rounding has an effect.


def test_training_images_are_those_of_the_files(shared: Path) -> None:
    data = load("mnist", shared / "datasets", "train")
    assert_sound(data, "mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.fixture
def mnist_copy(shared: Path, tmp_path: Path) -> Path:
    """A root with a private copy of MNIST's two test files only."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in TEST_FILES.values():
        path = Path("MNIST", "raw", name)
        (tmp_path / path).write_bytes((shared / "datasets" / path).read_bytes())
    return tmp_path


def test_only_the_files_of_the_split_are_needed(mnist_copy: Path) -> None:
    assert len(load("mnist", mnist_copy)) == 10_000
    with refused(".*/train-labels-idx1-ubyte: missing; put .* fetch them with 'download: true'"):
        load("mnist", mnist_copy, "train")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "images",
            lambda content: content[:-1],
            "found 7840015 bytes, expected 7840016; remove it, then put",
        ),
        (
            "labels",
            lambda content: content[:-1],
            "found 10007 bytes, expected 10008; remove it, then put",
        ),
        (
            "labels",
            lambda content: content[:7] + b"\x11" + content[8:],
            "not the published file, its SHA-256 differs; remove it",
        ),
        (
            "images",
            lambda content: content[:-1] + b"\x01",
            "not the published file, its SHA-256 differs; remove it, then put",
        ),
    ],
)
def test_a_changed_file_is_refused(
    mnist_copy: Path, part: str, change: Callable[[bytes], bytes], message: str
) -> None:
    path = mnist_copy / "MNIST" / "raw" / TEST_FILES[part]
    path.write_bytes(change(path.read_bytes()))
    with refused(f"{re.escape(str(path.parent))}.*: {message}"):
        load("mnist", mnist_copy)


def test_a_download_gives_the_same_images(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = []
    for path in (shared / "datasets" / "MNIST" / "raw").iterdir():
        packed = gzip.compress(path.read_bytes(), compresslevel=1)
        (tmp_path / f"{path.name}.gz").write_bytes(packed)
        archives.append((f"{path.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", archives)
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [url])
        downloaded = load("mnist", tmp_path / "new", download=True)
        server.shutdown()
    assert downloaded.sha256() == load("mnist", shared / "datasets").sha256()


def test_a_download_without_a_network_says_which_files_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{tmp_path.as_uri()}/nowhere/"])
    with refused("MNIST: Error downloading train-images.*; put t10k-images.*raw"):
        load("mnist", tmp_path, download=True)
