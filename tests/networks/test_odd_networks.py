"""What is odd about a network is said in one line, and the attacks get what they need."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from external_networks import SHAPE, SmallGap
from torch import Tensor, nn
from torch.nn import functional as F

from irpipe import cli
from irpipe.errors import IrpipeError
from irpipe.networks import external

CPU = torch.device("cpu")


class Odd(nn.Module):
    """SmallGap between two functions, or without one of them."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] = lambda images: images,
        after: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = SmallGap("mean")
        self.before, self.after = before, after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.body(self.before(images)))


class ZeroGradient(torch.autograd.Function):
    """The sign, with a gradient of 0."""

    @staticmethod
    def forward(context: object, images: Tensor) -> Tensor:
        return (images - 0.1).sign()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient)


class OnePixel(nn.Module):
    """Maps of one pixel, which are averaged in vain."""

    def __init__(self, has_relu: bool) -> None:
        super().__init__()
        self.has_relu = has_relu
        self.body = nn.Conv2d(1, 8, 28)
        self.head = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images)
        maps = maps.relu() if self.has_relu else maps
        logits: Tensor = self.head(F.adaptive_avg_pool2d(maps, 1).flatten(1))
        return logits


def untraceable_softmax(logits: Tensor) -> Tensor:
    """Softmax with a step that depends on values, so that torch.export stops."""
    if float(logits.detach().sum()) > 1e9:
        return logits
    return logits.softmax(dim=1)


def load(module: nn.Module, monkeypatch: pytest.MonkeyPatch) -> external.ExternalNetwork:
    monkeypatch.setattr(external, "call_function", lambda source: module)
    return external.load_external("a:b", SHAPE, 10, CPU)[0]


def images() -> Tensor:
    return torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("before", "fault"),
    [
        (ZeroGradient.apply, "0"),
        (lambda images: images + (images - images).abs().sqrt(), "NaN"),
    ],
)
def test_a_gradient_that_no_attack_can_follow_is_said(
    before: Callable[[Tensor], Tensor], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (note,) = load(Odd(before), monkeypatch).notes
    assert note.startswith(f"its gradient is {fault} on every image tried")


def test_an_ordinary_network_has_no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(Odd(), monkeypatch)
    assert network.notes == []
    assert network.has_maps


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("probabilities", lambda logits: logits.softmax(dim=1)),
        ("log-probabilities", lambda logits: F.log_softmax(logits, dim=-1)),
    ],
)
def test_the_logits_before_a_softmax_are_attacked(
    name: str, after: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load(Odd(after=after), monkeypatch)
    assert network.notes == [
        f"its outputs are {name}, which sum to 1; the attacks use the logits before its softmax"
    ]
    torch.testing.assert_close(network(images()), Odd()(images()))
    assert network.has_maps


def test_probabilities_without_logits_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(Odd(after=untraceable_softmax), monkeypatch)
    (note,) = network.notes
    assert note.startswith("its outputs are probabilities, which sum to 1, and its logits cannot")
    torch.testing.assert_close(network(images()), Odd()(images()).softmax(dim=1))
    assert network.why_no_maps == "torch.export cannot follow it"


@pytest.mark.parametrize("has_relu", [True, False])
def test_maps_of_one_pixel_are_called_so(has_relu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(OnePixel(has_relu), monkeypatch)
    assert network.why_no_maps == "its last maps have one pixel, which explains nothing"


@pytest.mark.parametrize("end", ["maximum", "convolution"])
def test_another_end_is_not_called_one_pixel(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(SmallGap(end), monkeypatch)
    assert network.why_no_maps.startswith("it does not end in global average pooling")


def test_weights_of_another_dtype_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IrpipeError, match=r"weights torch\.float64: let it convert the images\Z"):
        load(Odd().double(), monkeypatch)
    network = load(Odd(lambda images: images.double()).double(), monkeypatch)
    torch.testing.assert_close(network(images()), Odd()(images()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_traceable", [True, False])
@pytest.mark.parametrize("hold", [float, torch.tensor, lambda mean: (mean,)])
def test_another_normalisation_is_another_network(
    hold: Callable[[float], Any], is_traceable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be the mean a number or a tensor, even if it changes the logits by less than 1e-3."""

    def sha256(mean: float) -> str:
        module = Odd(after=(lambda x: x) if is_traceable else untraceable_identity)
        module.mean = hold(mean)
        module.before = lambda images: images - torch.as_tensor(module.mean)
        monkeypatch.setattr(external, "call_function", lambda source: module)
        return external.load_external("a:b", SHAPE, 10, CPU)[1]

    assert sha256(0.45) == sha256(0.45)
    assert sha256(0.45) != sha256(0.45001)


def untraceable_identity(logits: Tensor) -> Tensor:
    return logits + 0 if float(logits.detach().sum()) > 1e9 else logits


NETWORKS = """
import torch
import torchvision

def resnet() -> torch.nn.Module:
    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=10)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3)
    return net
"""


def test_a_file_may_import_torchvision(
    tmp_path: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The accuracy of random weights is at chance; maps of 28 x 28 images have one pixel."""
    monkeypatch.chdir(str(tmp_path))
    with open("nets.py", "w", encoding="utf-8") as file:
        file.write(NETWORKS)
    command = ["stress", "--checkpoint", "./nets.py:resnet", "--dataset", "digits"]
    attacks = [
        "margin={kind: margin_pgd, steps: [1, 2], eps: [0, 0.2], images: 10}",
        "aai={kind: aai, steps: 1, images: 10, hinge_weight: 1}",
    ]
    assert cli.main([*command, "--output", "out", "--attacks", *attacks]) == 0
    printed = capsys.readouterr().out
    assert "aai: left out, because it attacks maps and this network has none: its last maps" in (
        printed
    )
    assert "nothing to lose, since the accuracy is at chance" in printed
    assert "masking suspected" not in printed
