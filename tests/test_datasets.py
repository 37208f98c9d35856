"""The data sets give the images of Protocol C.1, and say in one line what is wrong with files."""

import gzip
import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

import irpipe.data
import irpipe.datasets
from irpipe._torchvision import torchvision
from irpipe.data import Images, Split, checked, data_root, dataset
from irpipe.errors import IrpipeError

KINDS = ["cifar10", "digits", "mnist", "restricted_imagenet"]
IDX = {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"}


def load(kind: str, root: Path, split: Split = "test", download: bool = False) -> Images:
    return irpipe.data.load({"kind": kind}, root, split, download)


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect one line that begins with a match of `message`."""
    return pytest.raises(IrpipeError, match=rf"^{message}[^\n]*$")


def assert_sound(data: Images, kind: str, counts: list[int], dtype: torch.dtype = torch.float32) -> None:
    assert data.images.shape == (len(data), *dataset(kind).SHAPE)
    assert (data.images.dtype, data.labels.dtype) == (dtype, torch.int64)
    assert [bound.item() for bound in data.images.aminmax()] == [0, 1]
    assert data.labels.bincount(minlength=len(dataset(kind).CLASSES)).tolist() == counts


def test_published_numbers() -> None:
    mnist, cifar = [0, 0.05, 0.1, 0.2, 0.3], [level / 255 for level in (0, 2, 4, 6, 8)]
    found = [(list(d.RADII), d.RADIUS, d.VALIDATION) for d in map(dataset, KINDS)]
    digits = [0, 0.05, 0.1, 0.15, 0.2]  # ours, there is no published one
    assert found == [(cifar, 8 / 255, 5000), (digits, 0.2, 200), (mnist, 0.3, 5000), ([0, 0.003], 0.003, 0)]


def test_unknown_kind_names_the_kinds_and_the_nearest() -> None:
    with refused(r"no dataset kind 'cifar'; have: cifar10, digits, .*; did you mean 'cifar10'\?"):
        dataset("cifar")


def test_data_root_prefers_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRPIPE_DATA", raising=False)
    assert data_root(None) == Path("data")
    monkeypatch.setenv("IRPIPE_DATA", "/env")
    assert [data_root(None), data_root("a"), data_root("~")] == [Path("/env"), Path("a"), Path.home()]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 3, 3), [0, 1], r".*\[2, 1, 3, 3\] for 2 labels, expected \[2, 1, 2, 2\]"),
        (torch.zeros(2, 1, 2, 2), [0], r".*\[2, 1, 2, 2\] for 1 labels, expected \[1, 1, 2, 2\]"),
        (torch.zeros(0, 1, 2, 2), [], r".*\[0, 1, 2, 2\] for 0 labels"),
        (torch.full((1, 1, 2, 2), 1.5), [0], "pixels from 1.5 to 1.5, expected 0 to 1"),
        (torch.full((1, 1, 2, 2), torch.nan), [0], "pixels from nan to nan"),
        (torch.tensor([[[[0, 0], [0, -torch.inf]]]]), [0], "pixels from -inf to 0"),
        (torch.zeros(2, 1, 2, 2), [-1, 3], "labels from -1 to 3, expected 0 to 2"),
    ],
)
def test_checked_refuses(images: torch.Tensor, labels: list[int], message: str) -> None:
    with refused(f"here: {message}"):
        checked(images, torch.tensor(labels, dtype=torch.int64), (1, 2, 2), 3, "here")


def test_sha256_depends_on_pixels_labels_shape_and_type_not_on_memory() -> None:
    images, labels = torch.rand(4, 1, 3, 3), torch.arange(4)
    one_pixel = images.clone()
    one_pixel[2, 0, 1, 1] += 1e-3
    others = [one_pixel, images.reshape(4, 1, 1, 9), images.view(torch.int32)]
    variants = [Images(images, labels), Images(images, labels.flip(0)), *(Images(i, labels) for i in others)]
    assert len({data.sha256() for data in variants}) == 5
    transposed = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert Images(transposed, labels.clone()).sha256() == variants[0].sha256()


def test_digits_are_scikit_learns_in_order() -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    train, test = load("digits", Path("unused"), "train"), load("digits", Path("unused"))
    assert (len(train), len(test)) == (1397, 400)
    assert_sound(train, "digits", np.bincount(source.target[:1397]).tolist())
    assert_sound(test, "digits", np.bincount(source.target[1397:]).tolist())
    assert torch.cat([train.labels, test.labels]).tolist() == source.target.tolist()
    # Output pixel i lies at (i + .5) * 8/28 - .5 of the input, in either direction, held within 0 and 7.
    at = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    weights = np.clip(1 - abs(at[:, None] - np.arange(8)), 0, None)
    expected = weights @ (source.images[1397:] / 16) @ weights.T
    np.testing.assert_allclose(test.images[:, 0].numpy(), expected, atol=1e-6)


def test_mnist_pixels_and_labels_are_those_of_the_files(shared: Path) -> None:
    data = load("mnist", shared / "datasets")
    assert_sound(data, "mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert data.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    pixels = np.fromfile(shared / "datasets" / "MNIST" / "raw" / IDX["images"], np.uint8)[16:]
    plain = pixels.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255)
    assert np.array_equal(data.images.numpy(), plain - np.float32(0.5) + np.float32(0.5))
    assert not np.array_equal(data.images.numpy(), plain)  # so the released code's rounding is there


def test_mnist_train(shared: Path) -> None:
    data = load("mnist", shared / "datasets", "train")
    assert_sound(data, "mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.fixture
def mnist_copy(shared: Path, tmp_path: Path) -> Path:
    """A root with a private copy of MNIST's two test files only."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in IDX.values():
        path = Path("MNIST", "raw", name)
        (tmp_path / path).write_bytes((shared / "datasets" / path).read_bytes())
    return tmp_path


def test_mnist_needs_only_the_files_of_the_split(mnist_copy: Path) -> None:
    assert len(load("mnist", mnist_copy)) == 10_000
    with refused(".*/train-labels-idx1-ubyte: missing; put .* fetch them with 'download: true'"):
        load("mnist", mnist_copy, "train")


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("images", lambda old: old[:-1], "found 7840015 bytes, expected 7840016; remove it, then put"),
        ("labels", lambda old: old[:-1], "found 10007 bytes, expected 10008; remove it, then put"),
        ("labels", lambda old: old[:7] + b"\x11" + old[8:], "not the published file, its SHA-256 differs; remove it"),
        ("images", lambda old: old[:-1] + b"\x01", "not the published file, its SHA-256 differs; remove it, then put"),
    ],
)
def test_mnist_broken(mnist_copy: Path, part: str, change: Callable[[bytes], bytes], message: str) -> None:
    path = mnist_copy / "MNIST" / "raw" / IDX[part]
    path.write_bytes(change(path.read_bytes()))
    with refused(f"{path.parent}.*: {message}"):
        load("mnist", mnist_copy)


def test_mnist_download(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        fetched = load("mnist", tmp_path / "new", download=True)
        server.shutdown()
    assert fetched.sha256() == load("mnist", shared / "datasets").sha256()


def test_download_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{tmp_path.as_uri()}/nowhere/"])
    with refused("MNIST: Error downloading train-images.*; put t10k-images.*raw"):
        load("mnist", tmp_path, download=True)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{tmp_path.as_uri()}/nowhere")
    with refused("CIFAR-10: .*No such file.*; put the folder cifar-10-batches-bin or cifar-10-batches-py"):
        load("cifar10", tmp_path, download=True)


def records(root: Path, name: str) -> np.ndarray:
    """CIFAR-10's records by hand: one label, then 32x32 red, green and blue pixels."""
    return np.fromfile(root / "cifar-10-batches-bin" / name, np.uint8).reshape(10_000, 3073)


def test_cifar10_test_is_float64_of_the_records(cifar_root: Path) -> None:
    data, record = load("cifar10", cifar_root), records(cifar_root, "test_batch.bin")[7].tolist()
    assert_sound(data, "cifar10", [1000] * 10, torch.float64)
    assert data.labels[7] == record[0]
    for channel, row, column in [(0, 0, 0), (1, 3, 30), (2, 31, 31)]:
        assert data.images[7, channel, row, column] == record[1 + channel * 1024 + row * 32 + column] / 255
    assert [dataset("cifar10").CLASSES[i] for i in data.labels[:4]] == ["cat", "ship", "ship", "airplane"]


def test_cifar10_train_is_float32_in_the_order_of_the_batches(cifar_root: Path) -> None:
    data, batch = load("cifar10", cifar_root, "train"), records(cifar_root, "data_batch_3.bin")
    assert_sound(data, "cifar10", [5000] * 10)
    assert data.labels[20_000:30_000].tolist() == batch[:, 0].tolist()
    expected = batch[7, 1:].astype(np.float32) / np.float32(255)
    assert np.array_equal(data.images[20_007].numpy().ravel(), expected)


def test_cifar10_absent_missing_and_truncated(cifar_root: Path, tmp_path: Path) -> None:
    with refused(f"{tmp_path}: no CIFAR-10 here; put the folder cifar-10-batches-bin or .*'download: true'"):
        load("cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with refused(".*/test_batch.bin: missing; put test_batch.bin of cifar-10-binary.tar.gz into"):
        load("cifar10", tmp_path)
    records(cifar_root, "test_batch.bin")[:-1].tofile(tmp_path / "cifar-10-batches-bin" / "test_batch.bin")
    with refused(".*/test_batch.bin: found 30726927 bytes, expected 30730000; remove it"):
        load("cifar10", tmp_path)


def test_cifar10_python_layout(cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, folder = records(cifar_root, "test_batch.bin"), tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = {"data": batch[:, 1:], "labels": batch[:, 0].tolist()}
    (folder / "test_batch").write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": []}))
    with refused("CIFAR-10: Dataset not found or corrupted"):  # the checksums are not the official ones
        load("cifar10", tmp_path)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    assert load("cifar10", tmp_path).sha256() == load("cifar10", cifar_root).sha256()


def test_restricted_imagenet(shared: Path) -> None:
    data = load("restricted_imagenet", shared / "datasets")
    assert_sound(data, "restricted_imagenet", [118, 5, 3, 5, 21, 18, 9, 4, 20])
    runs = [(2, 3), (3, 5), (4, 21), (7, 4), (0, 118), (1, 5), (8, 20), (5, 18), (6, 9)]
    assert data.labels.tolist() == [label for label, count in runs for _ in range(count)]
    # These files are 224x224 already, so nothing may change in resizing.
    last = sorted((shared / "datasets" / "restricted_imagenet" / "val").glob("*/*.JPEG"))[-1]
    with Image.open(last) as image:
        assert np.array_equal(data.images[-1].permute(1, 2, 0).numpy(), np.asarray(image, np.float32) / 255)


def test_restricted_imagenet_table_covers_the_published_ranges() -> None:
    table = Path(irpipe.datasets.__path__[0], "restricted_imagenet.csv").read_text().split()
    rows = [(int(index), wnid, name) for index, wnid, name in (line.split(",") for line in table[1:])]
    assert [wnid for _, wnid, _ in rows] == sorted({wnid for _, wnid, _ in rows})
    spans = {"frog": (30, 32), "turtle": (33, 37), "bird": (80, 100), "crab": (118, 121), "dog": (151, 268)}
    spans |= {"cat": (281, 285), "insect": (300, 319), "primate": (365, 382), "fish": (389, 397)}
    expected = [(index, name) for name, (low, high) in spans.items() for index in range(low, high + 1)]
    assert [(index, name) for index, _, name in rows] == expected


def save(pixels: np.ndarray, path: Path) -> None:
    """Write pixels without loss: PIL reads by content, so a PNG may be named JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="png")


def test_restricted_imagenet_squeezes_the_whole_image_as_cv2_does(tmp_path: Path) -> None:
    # 448 rows: output row i lies midway between input rows 2i and 2i+1. 672 columns: output column j lies on
    # input column 3j+1, and neither neighbour counts (PIL's resize would let them). Halves are rounded up.
    rows, columns = np.mgrid[:448, :672]
    pixels = (rows * 7 + columns * 31) % 256
    save(pixels.astype(np.uint8), tmp_path / "train" / "n02123045" / "grey.JPEG")
    data = load("restricted_imagenet", tmp_path, "train")
    expected = (pixels[::2, 1::3] + pixels[1::2, 1::3] + 1) // 2
    assert data.labels.tolist() == [1]
    assert np.array_equal(data.images.numpy() * 255, np.broadcast_to(expected, (1, 3, 224, 224)))


def test_restricted_imagenet_sorts_and_ignores_other_folders(tmp_path: Path) -> None:
    # A tabby cat, two bullfrogs and a tench, which is none of the nine.
    for level, name in enumerate(["n02123045/a", "n01641577/b", "n01641577/a", "n01440764/a"]):
        save(np.full((224, 224, 3), level, np.uint8), tmp_path / f"restricted_imagenet/val/{name}.JPEG")
    data = load("restricted_imagenet", tmp_path)
    assert data.labels.tolist() == [2, 2, 1]
    assert (data.images[:, 0, 0, 0] * 255).tolist() == [2, 1, 0]


def test_restricted_imagenet_absent_and_unreadable(shared: Path, tmp_path: Path) -> None:
    with refused("no image of Restricted ImageNet; put them, as .*JPEG, into .*/val/<wnid> or"):
        load("restricted_imagenet", tmp_path)
    path = tmp_path / "val" / "n01641577" / "bullfrog.JPEG"
    path.parent.mkdir(parents=True)
    whole = (shared / "datasets" / "restricted_imagenet" / path.relative_to(tmp_path)).read_bytes()
    for content in (b"not a JPEG", whole[:5000]):
        path.write_bytes(content)
        with refused(r".*/bullfrog.JPEG: not a readable image \(.*\); replace or remove it"):
            load("restricted_imagenet", tmp_path)


def run_python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_torchvision_imports_in_a_fresh_process_also_twice() -> None:
    twice = "import importlib, irpipe._torchvision as shim; importlib.reload(shim); "
    assert run_python(f"{twice}print(shim.torchvision.datasets.MNIST.__name__)") == "MNIST"


def test_data_sets_import_without_torchvision_and_scikit_learn() -> None:
    imports = f"import sys; from irpipe.data import dataset; [dataset(kind) for kind in {KINDS}]; "
    assert run_python(f"{imports}print({{'torchvision', 'sklearn', 'PIL'}} & set(sys.modules))") == "set()"
