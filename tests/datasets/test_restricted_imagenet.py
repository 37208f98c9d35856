"""Restricted ImageNet has the published classes and is resized as cv2 does (C.1)."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_checks import assert_sound, load, refused
from PIL import Image

import irpipe.datasets


def test_images_and_labels_are_those_of_the_files(shared: Path) -> None:
    data = load("restricted_imagenet", shared / "datasets")
    assert_sound(data, "restricted_imagenet", [118, 5, 3, 5, 21, 18, 9, 4, 20])
    runs = [(2, 3), (3, 5), (4, 21), (7, 4), (0, 118), (1, 5), (8, 20), (5, 18), (6, 9)]
    assert data.labels.tolist() == [label for label, count in runs for _ in range(count)]
    # These files are 224x224 already, so resizing may change nothing.
    last = sorted((shared / "datasets" / "restricted_imagenet" / "val").glob("*/*.JPEG"))[-1]
    with Image.open(last) as image:
        expected = np.asarray(image, np.float32) / 255
    assert np.array_equal(data.images[-1:][0].permute(1, 2, 0).numpy(), expected)


def test_the_table_covers_the_published_ranges() -> None:
    table = (
        Path(irpipe.datasets.__path__[0], "restricted_imagenet.csv")
        .read_text(encoding="utf-8")
        .split()
    )
    rows = [line.split(",") for line in table[1:]]
    wnids = [wnid for _, wnid, _ in rows]
    assert wnids == sorted(set(wnids))
    ranges = {
        "frog": (30, 32),
        "turtle": (33, 37),
        "bird": (80, 100),
        "crab": (118, 121),
        "dog": (151, 268),
        "cat": (281, 285),
        "insect": (300, 319),
        "primate": (365, 382),
        "fish": (389, 397),
    }
    expected = [
        (index, name) for name, (low, high) in ranges.items() for index in range(low, high + 1)
    ]
    assert [(int(index), name) for index, _, name in rows] == expected


def save(pixels: np.ndarray, path: Path) -> None:
    """Write pixels without loss: PIL reads by content, so a PNG may be named JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="png")


def test_the_complete_image_is_resized_as_cv2_does(tmp_path: Path) -> None:
    # 448 rows: output row i is midway between input rows 2i and 2i+1. 672 columns: output column
    # j is input column 3j+1, and its neighbours do not count (with PIL's resize they would).
    # Halves are rounded up.
    rows, columns = np.mgrid[:448, :672]
    pixels = (rows * 7 + columns * 31) % 256
    save(pixels.astype(np.uint8), tmp_path / "train" / "n02123045" / "grey.JPEG")
    data = load("restricted_imagenet", tmp_path, "train")
    expected = (pixels[::2, 1::3] + pixels[1::2, 1::3] + 1) // 2
    assert data.labels.tolist() == [1]
    assert np.array_equal(data.images[:].numpy() * 255, np.broadcast_to(expected, (1, 3, 224, 224)))


def test_an_image_has_the_same_bytes_with_any_number_of_threads(tmp_path: Path) -> None:
    """If torch shared out this image, some of its pixels would be one level off."""
    path = tmp_path / "val" / "n02123045" / "a.JPEG"
    save(np.random.RandomState(1).randint(256, size=(100, 448, 3)).astype(np.uint8), path)
    n_threads = torch.get_num_threads()
    read = []
    try:
        for n in (1, 2, 7):
            torch.set_num_threads(n)
            read.append(load("restricted_imagenet", tmp_path, "test").images[:])
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(read[0], read[1])
    assert torch.equal(read[0], read[2])


@pytest.mark.parametrize("mode", ["grey", "RGB"])
def test_of_16_bits_the_upper_8_count_as_for_cv2(mode: str, tmp_path: Path) -> None:
    """Files as cv2 and others write them: PIL writes grey ones only, so RGB is put together."""
    levels = np.arange(256, dtype=np.uint16).repeat(196)[: 224 * 224].reshape(224, 224)
    pixels = levels * 256 + 77
    path = tmp_path / "val" / "n01641577" / "deep.JPEG"
    path.parent.mkdir(parents=True)
    channels = 1 if mode == "grey" else 3
    rows = np.repeat(pixels[:, :, None], channels, axis=2).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 224, 224, 16, 0 if mode == "grey" else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    path.write_bytes(content)
    data = load("restricted_imagenet", tmp_path)
    expected = np.broadcast_to(levels, (1, 3, 224, 224))
    assert np.array_equal((data.images[:] * 255).round().numpy(), expected)


def test_images_are_sorted_and_other_folders_ignored(tmp_path: Path) -> None:
    # A tabby cat, two bullfrogs, and a tench, which belongs to none of the nine classes.
    for level, name in enumerate(["n02123045/a", "n01641577/b", "n01641577/a", "n01440764/a"]):
        path = tmp_path / f"restricted_imagenet/val/{name}.JPEG"
        save(np.full((224, 224, 3), level, np.uint8), path)
    data = load("restricted_imagenet", tmp_path)
    assert data.labels.tolist() == [2, 2, 1]
    assert (data.images[:][:, 0, 0, 0] * 255).tolist() == [2, 1, 0]


def test_absent_and_unreadable_images_are_refused(shared: Path, tmp_path: Path) -> None:
    with refused("no image of Restricted ImageNet; put them, as .*JPEG, into .*/val/<wnid> or"):
        load("restricted_imagenet", tmp_path)
    path = tmp_path / "val" / "n01641577" / "bullfrog.JPEG"
    path.parent.mkdir(parents=True)
    source = shared / "datasets" / "restricted_imagenet" / path.relative_to(tmp_path)
    for content in (b"not a JPEG", source.read_bytes()[:5000]):
        path.write_bytes(content)
        data = load("restricted_imagenet", tmp_path)
        with refused(r".*/bullfrog.JPEG: not a readable image \(.*\); replace or remove it"):
            data.sha256()
