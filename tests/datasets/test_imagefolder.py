"""A folder of images per class: what is read, in which order, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run
from PIL import Image

from irpipe import config
from irpipe.datasets import facts, load
from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.data_record import files_sha256
from irpipe.results.result import read_result

NETWORK = """
from torch import nn

def mine():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
"""
RECIPE = (
    "r={batch_size: 2, epochs: 2, lr: [[0, 0.01]], eps_schedule: [[0, 1]], inner_steps: 1, "
    "inner_step_size: 0.1}"
)


def save(path: Path, pixels: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def entry(folder: Path, **options: Any) -> dict[str, Any]:
    """The resolved entry of a folder."""
    content = {"kind": "imagefolder", "path": str(folder), "size": 4} | options
    return config.resolve_named("datasets", content, "here")


def grey(level: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.full((4, 4), level, dtype)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, of which `cat` has a grey image and `dog` one of 16 bits and a coloured one."""
    for split in ("train", "test"):
        save(tmp_path / split / "cat" / "a.png", grey(51))
        save(tmp_path / split / "dog" / "b.PNG", grey(0x6633, np.uint16))
        save(tmp_path / split / "dog" / "c.jpg", np.full((4, 4, 3), (255, 0, 255), np.uint8))
        (tmp_path / split / "dog" / ".hidden").write_text("", encoding="utf-8")
    return tmp_path


def test_levels_and_labels_of_every_kind_of_file(folder: Path) -> None:
    test = load(entry(folder), Path("unused"), "test")
    assert test.labels.tolist() == [0, 1, 1]
    images = test.images[:]
    assert images.shape == (3, 3, 4, 4)
    assert torch.equal(images[0], torch.full((3, 4, 4), 51) / 255)
    assert torch.equal(images[1], torch.full((3, 4, 4), 0x66) / 255)
    assert (images[2].mean(dim=(1, 2)) - torch.tensor([1.0, 0, 1])).abs().max() < 0.02
    grey_images = load(entry(folder, channels=1), Path("unused"), "test").images[:]
    assert grey_images.shape == (3, 1, 4, 4)
    luma = (299 + 114) / 1000  # of ITU-R 601, for red and blue
    assert abs(float(grey_images[2].mean()) - luma) < 0.02


def test_an_image_is_resized_by_its_shorter_side_and_cropped_to_its_centre(tmp_path: Path) -> None:
    """Of 8 x 24 pixels, the middle third is white; at 4 x 12, it is the 4 x 4 centre."""
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 6:18] = 255
    save(tmp_path / "a" / "x.png", pixels)
    options = entry(tmp_path, channels=1, classes=["a", "b"])
    image = load(options, Path("unused"), "test").images[:]
    assert torch.equal(image, torch.ones(1, 1, 4, 4))


def test_the_options_are_the_facts(folder: Path) -> None:
    assert facts(entry(folder)) == (
        (3, 4, 4),
        ("cat", "dog"),
        (0, 2 / 255, 4 / 255, 8 / 255),
        8 / 255,
        0,
    )
    options = {"classes": ["dog", "cat", "cow"], "eps": [0, 0.1], "validation": 2, "channels": 1}
    assert facts(entry(folder, **options)) == (
        (1, 4, 4),
        ("dog", "cat", "cow"),
        (0, 0.1),
        0.1,
        2,
    )
    labels = load(entry(folder, **options), Path("unused"), "test").labels
    assert labels.tolist() == [0, 0, 1]


def test_a_class_may_be_missing_from_a_split(folder: Path) -> None:
    save(folder / "train" / "ant" / "a.png", grey(1))
    assert facts(entry(folder)).class_names == ("ant", "cat", "dog")
    assert load(entry(folder), Path("unused"), "test").labels.tolist() == [1, 2, 2]
    # Those held out for validation are not of the first class only.
    assert load(entry(folder), Path("unused"), "train").labels.tolist() != [0, 1, 2, 2]


def test_the_record_notices_a_changed_file_and_not_a_moved_folder(folder: Path) -> None:
    before = files_sha256(entry(folder), Path("unused"), "test")
    moved = folder.parent / "moved"
    folder.rename(moved)
    assert files_sha256(entry(moved), Path("unused"), "test") == before
    save(moved / "test" / "dog" / "d.png", grey(1))
    assert files_sha256(entry(moved), Path("unused"), "test") != before


def write_text_as_image(folder: Path) -> None:
    (folder / "test" / "cat" / "broken.png").write_text("text", encoding="utf-8")


def write_note(folder: Path) -> None:
    (folder / "test" / "cat" / "notes.txt").write_text("text", encoding="utf-8")


def remove_training(folder: Path) -> None:
    (folder / "train").rename(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("split", "change", "options", "message"),
    [
        ("test", write_text_as_image, {}, r"/test/cat/broken\.png: not a readable image \(.*"),
        ("test", write_note, {}, r"/test/cat/notes\.txt: not a PNG or JPEG file; .*"),
        ("train", remove_training, {}, ": has no folder 'train'; put images into .*/train/<class>"),
        ("test", None, {"classes": ["cat"]}, "/test/dog: a folder of none of the classes cat"),
        ("test", None, {"path": "nowhere"}, "nowhere: no such folder; expected .*"),
    ],
)
def test_a_wrong_file_or_folder_is_one_line(
    split: Any, change: Any, options: dict[str, Any], message: str, folder: Path
) -> None:
    if change:
        change(folder)
    with pytest.raises(IrpipeError, match=rf"\A.*{message}\Z"):
        load(entry(folder, **options), Path("unused"), split).sha256()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cat", "cat"], "data set option classes: has a name twice"),
        (["cat"], ".*: has one class, cat; a classifier needs two or more"),
    ],
)
def test_a_classifier_needs_two_different_classes(
    classes: list[str], message: str, folder: Path
) -> None:
    with pytest.raises(IrpipeError, match=rf"\A{message}"):
        facts(entry(folder, classes=classes))


def test_a_class_that_is_called_as_a_split_is_named(tmp_path: Path) -> None:
    for name in ("car", "train"):
        save(tmp_path / name / "a.png", grey(1))
    with pytest.raises(IrpipeError, match=r"/train: has no folder; put images into .*/train/<cla"):
        facts(entry(tmp_path))


def test_a_network_is_stressed_and_trained_on_a_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two classes are too few for one of AutoAttack's members, which is left out.

    A file that is no image is told of once, before any attack.
    """
    monkeypatch.chdir(folder)
    Path("nets.py").write_text(NETWORK, encoding="utf-8")
    mine = f"mine={json.dumps(entry(Path('.'), size=16, validation=1))}"
    attacks = [
        "margin={kind: margin_pgd, steps: [1, 2], images: 3}",
        "auto={kind: autoattack, steps: 2, n_queries: 5, images: 3}",
        "aai={kind: aai, steps: 1, hinge_weight: 1, images: 3}",
    ]
    network = ("--checkpoint", "./nets.py:mine", "--dataset", mine)
    assert run("stress", *network, "--output", "o", "--attacks", *attacks) == 0
    attrs = read_result(Path("o/auto.h5")).attrs
    assert attrs["class_names"] == ["cat", "dog"]
    assert attrs["left_out"] == ["apgd-t"]
    assert read_result(Path("o/aai.h5")).arrays["eps"].tolist() == [0, 2 / 255, 4 / 255, 8 / 255]
    method = "m={kind: cross_entropy, adversarial: true}"
    parts = ("--dataset", mine, "--model", "small", "--method", method, "--recipe", RECIPE)
    assert run("train", *parts, "--output", "net.safetensors") == 0
    assert read_checkpoint(Path("net.safetensors")).tensors["head"].shape == (2, 100)
    evaluate = ("--attack", attacks[0], "--output", "margin.h5")
    assert run("evaluate", "--checkpoint", "net.safetensors", *evaluate) == 0
    assert read_result(Path("margin.h5")).attrs["train_eps"] == 8 / 255
    write_text_as_image(folder)
    capsys.readouterr()
    assert run("stress", *network, "--output", "p", "--attacks", *attacks) == 2
    assert re.fullmatch(r".*test/cat/broken\.png: not a readable.*\n", capsys.readouterr().err)
    assert not Path("p").exists()
