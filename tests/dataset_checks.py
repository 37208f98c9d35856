"""Load data sets, and check what they give or refuse."""

from pathlib import Path

import pytest
import torch

import irpipe.datasets
from irpipe.datasets import Images, Split, get_dataset
from irpipe.errors import IrpipeError


def load(kind: str, root: Path, split: Split = "test", download: bool = False) -> Images:
    return irpipe.datasets.load({"kind": kind}, root, split, download)


def refused(message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect one line that begins with a match of `message`."""
    return pytest.raises(IrpipeError, match=rf"^{message}[^\n]*$")


def assert_sound(
    data: Images, kind: str, class_counts: list[int], dtype: torch.dtype = torch.float32
) -> None:
    """Assert shape, types and range of images and how many there are of each class."""
    dataset = get_dataset(kind)
    assert data.images.shape == (len(data), *dataset.SHAPE)
    assert (data.images.dtype, data.labels.dtype) == (dtype, torch.int64)
    assert [bound.item() for bound in data.images[:].aminmax()] == [0, 1]
    assert data.labels.bincount(minlength=len(dataset.CLASS_NAMES)).tolist() == class_counts
