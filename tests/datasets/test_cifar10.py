"""CIFAR-10 is that of its official files, in the types of the released code (C.1)."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_checks import assert_sound, load, refused

from irpipe.datasets import get_dataset
from irpipe.datasets._torchvision import torchvision


def records(root: Path, name: str) -> np.ndarray:
    """Return CIFAR-10's records: one label, then 32x32 red, green and blue pixels."""
    return np.fromfile(root / "cifar-10-batches-bin" / name, np.uint8).reshape(10_000, 3073)


def test_test_images_are_float64_of_the_records(cifar_root: Path) -> None:
    data = load("cifar10", cifar_root)
    record = records(cifar_root, "test_batch.bin")[7].tolist()
    assert_sound(data, "cifar10", [1000] * 10, torch.float64)
    assert data.labels[7] == record[0]
    for channel, row, column in [(0, 0, 0), (1, 3, 30), (2, 31, 31)]:
        level = record[1 + channel * 1024 + row * 32 + column]
        assert data.images[7, channel, row, column] == level / 255
    names = [get_dataset("cifar10").CLASS_NAMES[label] for label in data.labels[:4]]
    assert names == ["cat", "ship", "ship", "airplane"]


def test_training_images_are_float32_in_the_order_of_the_files(cifar_root: Path) -> None:
    data = load("cifar10", cifar_root, "train")
    third_file = records(cifar_root, "data_batch_3.bin")
    assert_sound(data, "cifar10", [5000] * 10)
    assert data.labels[20_000:30_000].tolist() == third_file[:, 0].tolist()
    expected = third_file[7, 1:].astype(np.float32) / np.float32(255)
    assert np.array_equal(data.images[20_007].numpy().ravel(), expected)


def test_absent_missing_and_truncated_files_are_refused(cifar_root: Path, tmp_path: Path) -> None:
    with refused(
        f"{re.escape(str(tmp_path))}: no CIFAR-10 here; "
        "put the folder cifar-10-batches-bin or .*'download: true'"
    ):
        load("cifar10", tmp_path)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    with refused(".*/test_batch.bin: missing; put test_batch.bin of cifar-10-binary.tar.gz into"):
        load("cifar10", tmp_path)
    records(cifar_root, "test_batch.bin")[:-1].tofile(folder / "test_batch.bin")
    with refused(".*/test_batch.bin: found 30726927 bytes, expected 30730000; remove it"):
        load("cifar10", tmp_path)


def test_the_python_files_give_the_same_images(
    cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    batch = records(cifar_root, "test_batch.bin")
    content = {"data": batch[:, 1:], "labels": batch[:, 0].tolist()}
    (folder / "test_batch").write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": []}))
    # The checksums are not the official ones.
    with refused("CIFAR-10: Dataset not found or corrupted"):
        load("cifar10", tmp_path)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    assert load("cifar10", tmp_path).sha256() == load("cifar10", cifar_root).sha256()


def test_a_download_without_a_network_says_which_files_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{tmp_path.as_uri()}/nowhere")
    with refused(
        "CIFAR-10: .*No such file.*; put the folder cifar-10-batches-bin or cifar-10-batches-py"
    ):
        load("cifar10", tmp_path, download=True)
