"""Images in files: the same as those in memory, in any number of processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_checks import refused
from torch import Tensor

from irpipe.datasets import Images, _image_files
from irpipe.datasets._image_files import ImageFiles
from irpipe.errors import IrpipeError

SHAPE = (1, 2, 3)


def read(path: Path) -> Tensor:
    """An image from six bytes."""
    content = path.read_bytes()
    if len(content) != 6:
        raise IrpipeError(f"{path}: not a readable image (short); replace or remove it")
    return torch.tensor(list(content)).view(SHAPE) / 255


def write_images(folder: Path, n_images: int) -> tuple[Images, Images]:
    """Images in files, and the same in memory."""
    pixels = np.random.RandomState(3).randint(256, size=(n_images, *SHAPE)).astype(np.uint8)
    paths = [folder / str(index) for index in range(n_images)]
    for path, image in zip(paths, pixels, strict=True):
        path.write_bytes(image.tobytes())
    labels = torch.arange(n_images) % 3
    in_memory = Images(torch.from_numpy(pixels) / 255, labels)
    return Images(ImageFiles(paths, read, SHAPE), labels), in_memory


def test_files_stand_for_a_tensor(tmp_path: Path) -> None:
    files, in_memory = write_images(tmp_path, 70)
    assert files.images.shape == in_memory.images.shape
    assert len(files) == 70
    for rows in (slice(3, 9), slice(60, None), slice(0), np.array([5, 2, 5])):
        assert torch.equal(files.images[rows], in_memory.images[rows])
    part = files.part(slice(10, 30), torch.device("cpu"))
    assert torch.equal(part.images[:], in_memory.images[10:30])
    assert part.labels.tolist() == in_memory.labels[10:30].tolist()
    assert files.sha256() == in_memory.sha256()


@pytest.mark.parametrize("n_workers", [0, 2])
def test_batches_come_in_order(
    n_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_image_files, "MAX_WORKERS", n_workers)
    monkeypatch.setattr(_image_files, "BATCHES_PER_WORKER", 1)
    files, in_memory = write_images(tmp_path, 12)
    rows = np.random.RandomState(4).permutation(12).reshape(6, 2)
    batches = zip(files.batches(rows), in_memory.batches(rows), strict=True)
    n_batches = 0
    for (images, labels), (expected, expected_labels) in batches:
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
        n_batches += 1
    assert n_batches == 6
    (tmp_path / "7").write_bytes(b"short")
    with refused(r".*/7: not a readable image \(short\); replace or remove it"):
        list(files.batches(rows))


UNFINISHED = """
import sys
from pathlib import Path
import numpy as np, torch
from irpipe.datasets import _image_files

def read(path):
    return torch.zeros(1, 200, 200)

if __name__ == "__main__":  # as the processes that read ahead need it
    _image_files.BATCHES_PER_WORKER = 1
    files = _image_files.ImageFiles([Path(str(n)) for n in range(40)], read, (1, 200, 200))
    batches = files.batches(np.arange(40).reshape(20, 2))
    next(batches)
"""


def test_a_process_ends_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    """The processes that read ahead do not hold it up, although they ignore SIGTERM."""
    script = tmp_path / "unfinished.py"
    script.write_text(UNFINISHED, encoding="utf-8")
    subprocess.run([sys.executable, str(script)], check=True, timeout=120)
