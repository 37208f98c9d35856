"""What files beside the config give is checked: a wrong image, weight or loss ends in one line."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_line import run
from safetensors.torch import save_file

from irpipe.networks.checkpoint import read_checkpoint

RECIPE = (
    "r={batch_size: 100, epochs: 2, lr: [[0, 0.002]], eps_schedule: [[0, 1]], "
    "inner_steps: 1, inner_step_size: 0.05}"
)
METHOD = "m={kind: interpretability_aware}"
DATASET = """
import torch
from irpipe.datasets import ImageFiles, Images, digits

SHAPE, CLASS_NAMES = (1, 8, 8), list("0123456789")
EVAL_EPS, TRAIN_EPS, N_VALIDATION = [0, .1], .1, 9

def read(path):
    return torch.full((1, 8, 8), float("nan"))

def load(root, split, download=False):
    of_digits = digits.load(root, split)
    images, labels = of_digits.images[:300, :, 4::3, 4::3].clone(), of_digits.labels[:300].clone()
    {change}
    return Images(images, labels)
"""
MODEL = """
from torch import nn
from irpipe.networks.network import Network

def build(shape, classes):
    last_conv, conv = None, nn.Conv2d(1, 8, 4, 2, 1)
    layers = [conv, nn.ReLU()]
    {change}
    return Network(nn.Sequential(*layers), last_conv, 8, classes)
"""
OBJECTIVE = """
from torch.nn import functional as F
from irpipe.methods import Objective

def objective(network, images, labels):
    def loss(perturbed):
        value = F.cross_entropy(network(perturbed), labels)
        {loss}
        return value
    {change}
    return Objective(loss)
"""
ATTACK = """
import torch
from irpipe.attacks import AttackOutput
from irpipe.option_types import EpsList

PROTOCOL = ()

def attack(batch, *, eps: EpsList):
    images = torch.stack([(batch.images + bound).clamp(0, 1) for bound in eps])
    {change}
    yield AttackOutput(1, images)
    {after}
"""


ZERO = "[each.detach().zero_() for each in batch.network.parameters()]"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str, **changes: str) -> None:
    for key, change in changes.items():
        text = text.replace(f"{{{key}}}", change)
    Path(name).write_text(text, encoding="utf-8")


def train(output: str = "net", dataset: str = "digits", model: str = "small") -> int:
    arguments = ("--dataset", dataset, "--model", model, "--method", METHOD)
    return run("train", *arguments, "--recipe", RECIPE, "--output", f"{output}.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("images[3, 0, 2, 2] = float('nan')", "pixels from nan to nan, expected 0 to 1"),
        ("images = images * 255", "pixels from 0 to 255, expected 0 to 1"),
        ("labels[4] = 10", "labels from 0 to 10, expected 0 to 9"),
        ("labels[4] = -1", "labels from -1 to 9, expected 0 to 9"),
        (
            "labels = labels[1:]",
            r"shape \[300, 1, 8, 8\] for 299 labels, expected \[299, 1, 8, 8\]",
        ),
        ("images = images.movedim(1, 3)", r"shape \[300, 8, 8, 1\] for 300 labels, expected .*"),
        ("labels = labels.numpy()", r"labels of type ndarray, expected a torch\.Tensor"),
        ("return images, labels", "load gave a tuple, expected Images"),
        ("images = (images * 255).byte()", r"images of torch\.uint8, expected torch\.float32 .*"),
    ],
)
def test_a_data_set_that_is_wrong_is_refused(
    change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.py", DATASET, change=change)
    command = ("data", "--dataset", "mine={kind: ./mine.py}", "--output", "mine.json")
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"irpipe data: error: \./mine\.py, test images: .*{message}\n", error), (
        error
    )
    assert not Path("mine.json").exists()


def test_an_image_of_a_file_that_is_wrong_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    files = "images = ImageFiles([root / str(n) for n in range(300)], read, SHAPE)"
    write("mine.py", DATASET, change=files)
    command = ("data", "--dataset", "mine={kind: ./mine.py}", "--data", "d", "--output", "m.json")
    assert run(*command) == 2
    expected = "irpipe data: error: d/0: pixels from nan to nan, expected 0 to 1\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(1, 8, 8)", "(8, 8)", r"SHAPE is \(8, 8\), expected \(C, H, W\), such as \(1, 28, 28\)"),
        ('list("0123456789")', "range(10)", r"CLASS_NAMES is range\(0, 10\), expected two .*"),
        ("[0, .1]", "8 / 255", "EVAL_EPS is 0.03.*, expected numbers from 0 to 1, .*"),
    ],
)
def test_facts_that_are_wrong_are_refused(
    old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.py", DATASET.replace(old, new, 1), change="")
    command = ("data", "--dataset", "mine={kind: ./mine.py}", "--output", "mine.json")
    assert run(*command) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"irpipe data: error: \./mine\.py: {message}\n", error), error


def test_images_of_float64_make_the_same_network() -> None:
    """Levels of 0 to 16, divided by 16, are the same number in both types."""
    write("single.py", DATASET, change="")
    write("double.py", DATASET, change="images = images.double()")
    weights = []
    for name in ("single", "double"):
        assert train(name, dataset=f"mine={{kind: ./{name}.py}}") == 0
        weights.append(read_checkpoint(Path(f"{name}.safetensors")).tensors)
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


@pytest.mark.parametrize(
    "change",
    [
        "layers = [nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Unflatten(1, (8, 1, 1))]",
        "layers += [nn.Dropout(0.5)]",
        "layers += [nn.BatchNorm2d(8)]",
    ],
)
def test_an_architecture_of_any_layers_makes_the_same_network_again(change: str) -> None:
    write("mine.py", MODEL, change=change)
    contents = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # the numbers of before do not count
        assert train(str(seed), model="./mine.py") == 0
        contents.append(Path(f"{seed}.safetensors").read_bytes())
    assert contents[0] == contents[1]


def test_a_layer_that_is_used_twice_is_saved() -> None:
    change = "twice = nn.Conv2d(8, 8, 3, 1, 1); layers += [twice, nn.ReLU(), twice, nn.ReLU()]"
    write("mine.py", MODEL, change=change)
    assert train(model="./mine.py") == 0
    tensors = read_checkpoint(Path("net.safetensors")).tensors
    assert torch.equal(tensors["backbone.2.weight"], tensors["backbone.4.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("conv.double()", "build gave backbone.0.weight of torch.float64, expected float32"),
        ("conv.requires_grad_(False)", "build gave backbone.0.weight that is not trained; "),
        ("layers[0] = nn.LazyConv2d(8, 4)", "build gave backbone.0.weight without a shape; "),
        ("layers[0] = nn.Conv2d(1, 8, 30)", "cannot take images [2, 1, 28, 28] (RuntimeError: "),
        ("layers += [nn.Flatten()]", "gives feature maps [2, 1568] for two images; expected [2, 8"),
        ("last_conv = nn.Conv2d(8, 8, 3, 2, 1)", "last_conv has stride (2, 2), expected (1, 1)"),
        ("last_conv = nn.Conv2d(8, 8, 3, 1, 1, 2)", "last_conv has dilation (2, 2), expected ("),
        ("last_conv = nn.Conv2d(8, 8, 3)", "last_conv has padding (0, 0), expected (1, 1)"),
        ("last_conv = nn.Conv2d(8, 8, 2, 1, 1)", "last_conv has kernel_size 2, expected an odd"),
    ],
)
def test_an_architecture_that_cannot_be_trained_is_refused(
    change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.py", MODEL, change=change)
    assert train(model="./mine.py") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"irpipe train: error: ./mine.py: {message}")


@pytest.mark.parametrize(
    ("loss", "change", "message"),
    [
        ("value = value.expand(3)", "", "loss gave torch.float32 [3], expected a scalar"),
        ("value = value.item()", "", "loss gave float, expected a scalar of a float type"),
        ("value = value.detach()", "", "loss has no gradient for the perturbed images; let it"),
        ("", "return loss", "objective gave a function, expected an Objective"),
        ("", "return Objective(loss, init='zero')", "init is 'zero', expected uniform or gaussian"),
        ("", "return Objective(loss, inner_loss=network)", "inner_loss gave torch.float32 [2, 10]"),
    ],
)
def test_a_method_whose_loss_is_none_is_refused(
    loss: str, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.py", OBJECTIVE, loss=loss or "pass", change=change)
    arguments = ("--dataset", "digits", "--model", "small", "--method", "m={kind: ./mine.py}")
    assert run("train", *arguments, "--recipe", RECIPE, "--output", "net.safetensors") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"irpipe train: error: ./mine.py: {message}")


NETWORK = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


def stress(folder: str, *attacks: str) -> int:
    command = ("stress", "--checkpoint", "nets.py:net", "--dataset", "digits", "--images", 20)
    return run(*command, "--output", folder, "--attacks", *attacks)


def arrays(path: str) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in ("prediction", "loss")}


@pytest.mark.parametrize(
    ("change", "after", "reason"),
    [
        ("images = images.double()", "", ""),
        ("torch.set_grad_enabled(False)", "", ""),
        ("torch.set_default_dtype(torch.float64)", "", ""),
        (
            ZERO,
            "",
            "changed the network's",
        ),
        (
            "",
            ZERO,
            "changed the network's",
        ),
    ],
)
def test_an_attack_leaves_the_network_to_the_next_one(
    change: str, after: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pgd = "pgd={kind: pgd, steps: 2}"
    write("nets.py", NETWORK)
    write("mine.py", ATTACK, change=change, after=after)
    assert stress("alone", pgd) == 0
    assert stress("both", "mine={kind: ./mine.py}", pgd) == (2 if reason else 0)
    assert reason in capsys.readouterr().err
    alone, both = arrays("alone/pgd.h5"), arrays("both/pgd.h5")
    assert all(np.array_equal(alone[name], both[name]) for name in alone)


def test_a_state_dict_is_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"0.weight": torch.zeros(2)}, "own.safetensors")
    Path("own.pth").touch()
    messages = []
    for name in ("own.safetensors", "own.pth", "nets.py:"):
        assert run("stress", "--checkpoint", name, "--dataset", "digits", "--output", "o") == 2
        messages.append(capsys.readouterr().err)
    assert "(no irpipe metadata); for weights of your own network, name a function" in messages[0]
    assert all("such a function returns a torch.nn.Module" in line for line in messages[1:])
    for name in ("nets.py:net", "own.pth"):
        assert run("evaluate", "--checkpoint", name, "--attack", "pgd", "--output", "a.h5") == 2
        assert "from elsewhere, say --external MODEL/METHOD" in capsys.readouterr().err


def test_a_folder_of_results_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    Path("some").mkdir()
    assert run("report", "--table", "3", "some", "--output", "tables") == 2
    expected = "irpipe report: error: some: is a folder; name the results in it, some/*.h5\n"
    assert capsys.readouterr().err == expected
