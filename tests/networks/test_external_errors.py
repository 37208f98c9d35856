"""A source that names no usable network ends in one line that says what is wrong."""

import re
from pathlib import Path

import pytest
import torch
from external_networks import SHAPE, SmallGap

from irpipe import cli
from irpipe.errors import IrpipeError
from irpipe.networks import external

CPU = torch.device("cpu")
BROKEN_NETWORKS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call = call
    def forward(self, images):
        return self.call(images.flatten(1))

flat = lambda x: x[:, :10]
five = lambda: Net(lambda x: x[:, :5])
pair = lambda: Net(lambda x: (flat(x), x))
infinite = lambda: Net(lambda x: flat(x) / 0)
detached = lambda: Net(lambda x: flat(x).detach())
chance = lambda: Net(lambda x: flat(x) + torch.rand(1))
batch = lambda: Net(lambda x: flat(x) - flat(x).mean(0))
colour = lambda: nn.Sequential(nn.Conv2d(3, 10, 28), nn.Flatten())
squeezed = lambda: Net(lambda x: flat(x).squeeze())
weights = dict
number = 3
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("five", r"gives \[3, 5\] for 3 images of 10 classes, not logits"),
        ("pair", r"gives tuple for 3 images of 10 classes, not logits"),
        ("infinite", "gives logits that are not finite"),
        ("detached", "gives logits without a gradient"),
        ("chance", "depend on chance or on the other images"),
        ("batch", "depend on chance or on the other images"),
        ("squeezed", r"gives \[10\] for one image, not \[1, 10\]"),
        ("colour", r"cannot take images \[3, 1, 28, 28\] \(.*channels"),
        ("weights", "gave a dict, not a torch.nn.Module"),
        ("number", "module 'broken_networks' has no function 'number'"),
        ("nothing", "module 'broken_networks' has no function 'nothing'"),
    ],
)
def test_a_function_that_returns_no_usable_network_is_refused(
    function: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_networks.py").write_text(BROKEN_NETWORKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    source = f"broken_networks:{function}"
    with pytest.raises(IrpipeError, match=rf"\A{source}: .*{message}"):
        external.load_external(source, SHAPE, 10, CPU)


DIGITS = ["--dataset", "digits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_module:make", *DIGITS], "module 'no_such_module' cannot be imported"),
        ([":make", *DIGITS], ":make: none of NET.safetensors"),
        (["missing.pt2", *DIGITS], "missing.pt2: no such file"),
        (["text.pt2", *DIGITS], "text.pt2: not a readable torch.export file"),
        (
            ["fixed.pt2", *DIGITS],
            "if it takes so many images only, export it with dynamic_shapes",
        ),
        (["my-net.pt2"], "--dataset: missing"),
        (["net.onnx", *DIGITS], "none of NET.safetensors, NET.pt2, FILE.py:function and"),
        (["net.safetensors", *DIGITS], "has both itself"),
        (["my-net.pt2", *DIGITS, "--name", "a b"], "--name: 'a b' is no name"),
        (
            ["my-net.pt2", *DIGITS, "--images", "0"],
            "--images, pgd.images: .*greater than or equal to 1",
        ),
        (["my-net.pt2", *DIGITS, "--attacks", "margin_pdg"], "did you mean 'margin_pgd'"),
    ],
)
def test_a_wrong_argument_ends_in_one_line(
    arguments: list[str],
    message: str,
    three_forms: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(three_forms)
    Path("text.pt2").write_text("text", encoding="utf-8")
    if arguments[0] == "fixed.pt2":
        for_five_images = torch.export.export(SmallGap("mean"), (torch.zeros(5, *SHAPE),))
        torch.export.save(for_five_images, "fixed.pt2")
    assert cli.main(["stress", "--checkpoint", *arguments, "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not Path("out").exists()
