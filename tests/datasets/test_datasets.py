"""All data sets keep the interface of `irpipe.datasets`; digits are scikit-learn's."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_checks import assert_sound, load, refused

from irpipe.datasets import Images, data_root, facts, get_dataset, validated_images

KINDS = ["cifar10", "digits", "mnist", "restricted_imagenet"]


def test_data_sets_have_the_published_numbers() -> None:
    digits = [0, 0.05, 0.1, 0.15, 0.2]  # Ours; nobody has published any.
    mnist = [0, 0.05, 0.1, 0.2, 0.3]
    cifar = [level / 255 for level in (0, 2, 4, 6, 8)]
    numbers = [(list(d.EVAL_EPS), d.TRAIN_EPS, d.N_VALIDATION) for d in map(get_dataset, KINDS)]
    assert numbers == [
        (cifar, 8 / 255, 5000),
        (digits, 0.2, 200),
        (mnist, 0.3, 5000),
        ([0, 0.003], 0.003, 0),
    ]
    assert facts({"kind": "digits"})[2:] == (tuple(digits), 0.2, 200)
    assert facts({"kind": "digits", "train_eps": 0.1})[2:4] == ((0, 0.025, 0.05, 0.075, 0.1), 0.1)


def test_an_unknown_kind_names_the_kinds_and_the_nearest() -> None:
    with refused(r"no dataset kind 'cifar'; have: cifar10, digits, .*; did you mean 'cifar10'\?"):
        get_dataset("cifar")


def test_data_root_prefers_the_argument_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IRPIPE_DATA", raising=False)
    assert data_root(None) == Path("data")
    monkeypatch.setenv("IRPIPE_DATA", "/env")
    assert data_root(None) == Path("/env")
    assert data_root("a") == Path("a")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~") == tmp_path


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            torch.zeros(2, 1, 3, 3),
            [0, 1],
            r".*\[2, 1, 3, 3\] for 2 labels, expected \[2, 1, 2, 2\]",
        ),
        (torch.zeros(2, 1, 2, 2), [0], r".*\[2, 1, 2, 2\] for 1 labels, expected \[1, 1, 2, 2\]"),
        (torch.zeros(0, 1, 2, 2), [], r".*\[0, 1, 2, 2\] for 0 labels"),
        (torch.full((1, 1, 2, 2), 1.5), [0], "pixels from 1.5 to 1.5, expected 0 to 1"),
        (torch.full((1, 1, 2, 2), torch.nan), [0], "pixels from nan to nan"),
        (torch.tensor([[[[0, 0], [0, -torch.inf]]]]), [0], "pixels from -inf to 0"),
        (torch.zeros(2, 1, 2, 2), [-1, 3], "labels from -1 to 3, expected 0 to 2"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), [0], "images of torch.uint8, .*by 255"),
        (torch.zeros(1, 1, 2, 2).half(), [0], "images of torch.float16, expected torch.float32"),
        (np.zeros((1, 1, 2, 2)), [0], "images of type ndarray, expected a torch.Tensor"),
    ],
)
def test_validated_images_refuses_what_no_data_set_has(
    images: torch.Tensor, labels: list[int], message: str
) -> None:
    with refused(f"here: {message}"):
        validated_images(images, torch.tensor(labels, dtype=torch.int64), (1, 2, 2), 3, "here")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0.5]), r"labels of torch.float32 and shape \[1\], expected whole numbers"),
        (torch.tensor([[1]]), r"labels of torch.int64 and shape \[1, 1\], expected whole numbers"),
        ([1], "labels of type list, expected a torch.Tensor"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(labels: Any, message: str) -> None:
    with refused(f"here: {message}"):
        validated_images(torch.zeros(1, 1, 2, 2), labels, (1, 2, 2), 3, "here")


def test_images_of_any_memory_layout_become_contiguous() -> None:
    images = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    labels = torch.tensor([0, 1], dtype=torch.uint8)
    data = validated_images(images, labels, (3, 4, 4), 2, "here")
    assert data.images.is_contiguous()
    assert torch.equal(data.images, images)
    assert data.labels.dtype == torch.int64


def test_sha256_depends_on_pixels_labels_shape_and_type_but_not_on_the_order_in_memory() -> None:
    images, labels = torch.rand(4, 1, 3, 3), torch.arange(4)
    changed = images.clone()
    changed[2, 0, 1, 1] += 1e-3
    reshaped = images.reshape(4, 1, 1, 9)
    retyped = images.view(torch.int32)
    hashes = [
        Images(images, labels).sha256(),
        Images(images, labels.flip(0)).sha256(),
        *(Images(other, labels).sha256() for other in (changed, reshaped, retyped)),
    ]
    assert len(set(hashes)) == 5
    transposed = images.transpose(2, 3).contiguous().transpose(2, 3)
    assert Images(transposed, labels.clone()).sha256() == hashes[0]


def test_digits_are_scikit_learns_in_order() -> None:
    from sklearn.datasets import load_digits

    source = load_digits()
    train, test = load("digits", Path("unused"), "train"), load("digits", Path("unused"))
    assert (len(train), len(test)) == (1397, 400)
    assert_sound(train, "digits", np.bincount(source.target[:1397]).tolist())
    assert_sound(test, "digits", np.bincount(source.target[1397:]).tolist())
    assert torch.cat([train.labels, test.labels]).tolist() == source.target.tolist()
    # Output pixel i is at (i + .5) * 8/28 - .5 of the input in either direction, within 0 and 7.
    position = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    weights = np.clip(1 - abs(position[:, None] - np.arange(8)), 0, None)
    expected = weights @ (source.images[1397:] / 16) @ weights.T
    np.testing.assert_allclose(test.images[:, 0].numpy(), expected, atol=1e-6)


def run_python(*lines: str) -> str:
    command = [sys.executable, "-W", "error", "-c", "\n".join(lines)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_torchvision_imports_in_a_fresh_process_also_twice() -> None:
    printed = run_python(
        "import importlib",
        "from irpipe.datasets import _torchvision",
        "importlib.reload(_torchvision)",
        "print(_torchvision.torchvision.datasets.MNIST.__name__)",
    )
    assert printed == "MNIST"


def test_data_sets_import_without_torchvision_and_scikit_learn() -> None:
    printed = run_python(
        "import sys",
        "from irpipe.datasets import get_dataset",
        f"for kind in {KINDS}: get_dataset(kind)",
        "print({'torchvision', 'sklearn', 'PIL'} & set(sys.modules))",
    )
    assert printed == "set()"
