"""`irpipe stress`: networks that are not ours give what ours of the same weights give; one line for what is none."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from irpipe import cli, foreign
from irpipe.data import load
from irpipe.errors import IrpipeError
from irpipe.io import Checkpoint, Result, read_checkpoint, read_result, write_checkpoint
from irpipe.models import Network, build
from irpipe.optimise import draw_weights
from irpipe.reports import masking

SHAPE, CPU = (1, 28, 28), torch.device("cpu")
OPTIONS = "images: 20, eps: [0, 0.02, 0.2]"
ATTACKS = [
    f"strong={{kind: strong, steps: [1, 5], {OPTIONS}}}",
    f"square={{kind: autoattack, components: square, queries: 20, {OPTIONS}}}",
    f"aai={{kind: aai, steps: 10, hinge: 1, {OPTIONS}}}",
    f"aai_gradcampp={{kind: aai, steps: 10, interpreter: gradcampp, objective: two_class, {OPTIONS}}}",
]


class Plain(nn.Module):
    """Small as its layers stand in protocol C.1, the last convolution, pooling and head as anyone would write them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.body = nn.Sequential(*network.trunk, network.last)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(100, 10, bias=False)
        self.head.weight = network.head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.body(images)).flatten(1))
        return logits


def fitted() -> Network:
    """A network for digits, as drawn but for a fitted head, in torch's own layout, as torch.export wants it."""
    network, digits = build("small", SHAPE, 10), load({"kind": "digits"}, Path("unused"), "train")
    draw_weights(network, np.random.RandomState(1))
    with torch.no_grad():
        features = network.features(digits.images[:400]).mean(dim=(2, 3))
        network.head.copy_(torch.linalg.lstsq(features, torch.eye(10)[digits.labels[:400]]).solution.T)
    made: Network = network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub
    return made


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same network as a checkpoint, a torch.export file and a function."""
    folder, network = tmp_path_factory.mktemp("three"), fitted()
    about = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "method": "int", "run": "seed7"}
    tensors = {name: value.detach() for name, value in network.state_dict().items()}
    write_checkpoint(folder / "net.safetensors", Checkpoint(about, tensors))
    shapes = ({0: torch.export.Dim.AUTO},)
    exported = torch.export.export(Plain(network).eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=shapes)
    torch.export.save(exported, folder / "my-net.pt2")
    lines = ["import sys", f"sys.path.insert(0, {str(Path(__file__).parent)!r})"]
    lines += ["from test_foreign import Plain, fitted", "def make():", "    return Plain(fitted())"]
    (folder / "three_forms.py").write_text("\n".join(lines))
    return folder


def stressed(
    given: str, *options: str, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path
) -> dict[str, Result]:
    monkeypatch.chdir(folder)
    arguments = ["stress", "--checkpoint", given, "--device", "cpu", "--output", str(tmp_path), *options]
    assert cli.main([*arguments, "--attacks", *ATTACKS]) == 0
    return {path.stem: read_result(path) for path in sorted(tmp_path.glob("*.h5"))}


@pytest.mark.parametrize("given", ["my-net.pt2", "three_forms:make"])
def test_every_form_gives_what_a_checkpoint_gives(
    given: str, three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = {"monkeypatch": monkeypatch, "folder": three}
    ours = stressed("net.safetensors", tmp_path=tmp_path / "ours", **shared)  # type: ignore[arg-type]
    capsys.readouterr()
    theirs = stressed(given, "--dataset", "digits", tmp_path=tmp_path / "theirs", **shared)  # type: ignore[arg-type]
    assert sorted(theirs) == sorted(ours) == ["aai", "aai_gradcampp", "square", "strong"]
    for name, result in theirs.items():
        one, other = ours[name].arrays, result.arrays
        np.testing.assert_allclose(other["loss"][:, 0], one["loss"][:, 0], atol=1e-4)  # of clean images
        assert (other["correct"] == one["correct"]).mean() > 0.97  # the sign of a vanishing gradient may turn
        if "tau" in one:
            assert np.median(np.abs(other["tau"] - one["tau"])) < 0.02
    assert theirs["strong"].arrays["correct"][:, 0].mean() > 0.5
    assert theirs["strong"].arrays["correct"][:, 2, 1].mean() < 0.1
    attrs = theirs["strong"].attrs
    assert (attrs["method"], attrs["run"]) == ("my_net" if given.endswith("pt2") else "make", "given")
    assert attrs["code"] == ours["strong"].attrs["code"]
    assert len(attrs["network_sha256"]) == 64
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "  radius    0.0000 0.0200 0.2000"
    assert said[-1].startswith(("no sign of masking", "masking suspected"))
    written = masking.report(list(theirs.values()), tmp_path / "m", title="T", attacks=["strong", "square"])
    assert "black-box beats white-box" in written[1].read_text()


class Head(nn.Module):
    """Two of anything, normalised inside, with a bias and, for `end`, ways to pool."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end, self.body, self.head = end, nn.Conv2d(1, 4, 3, stride=4), nn.Linear(4, 10)
        self.drop, self.bare = nn.Dropout(), nn.Conv2d(4, 10, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.body((images - 0.1) / 0.3).relu()
        if self.end == "convolution":
            return self.bare(hidden).mean(dim=(2, 3))  # type: ignore[no-any-return]
        pooled = {
            "mean": lambda: hidden.mean((-1, -2)),
            "window": lambda: nn.functional.avg_pool2d(hidden, 7).flatten(1),
            "dropout": lambda: self.drop(nn.functional.adaptive_avg_pool2d(hidden, 1)[..., 0, 0]),
            "maximum": lambda: hidden.amax((-1, -2)),
        }[self.end]()
        return self.head(pooled)  # type: ignore[no-any-return]


@pytest.mark.parametrize("end", ["mean", "window", "dropout"])
def test_maps_are_of_the_layer_that_is_averaged(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Head(end)
    monkeypatch.setattr(foreign, "_made", lambda given: module)
    network, _ = foreign.load("a:b", SHAPE, 10, CPU)
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    features = module.body((images - 0.1) / 0.3).relu()
    assert network.has_maps
    torch.testing.assert_close(network.features(images), features)
    expected = torch.einsum("ck,nkhw->nchw", module.head.weight, features)
    torch.testing.assert_close(network.maps(images), expected + module.head.bias[:, None, None])
    torch.testing.assert_close(network.maps(images).mean(dim=(2, 3)), module(images))
    positive = torch.einsum("ck,nkhw->nchw", module.head.weight.clamp(min=0), features)
    torch.testing.assert_close(network.maps(images, positive=True), positive)
    assert not any(weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("end", ["maximum", "convolution"])
def test_maps_are_left_out_where_no_head_is_over_averaged_features(
    end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(foreign, "_made", lambda given: Head(end))
    found = stressed("a:b", "--dataset", "digits", monkeypatch=monkeypatch, folder=tmp_path, tmp_path=tmp_path)
    assert sorted(found) == ["square", "strong"]
    assert "aai: left out, it is on maps, and the network ends in no linear head" in capsys.readouterr().out


def test_the_hash_is_of_the_weights_and_of_the_file(monkeypatch: pytest.MonkeyPatch, three: Path) -> None:
    def hashed(module: nn.Module) -> str:
        monkeypatch.setattr(foreign, "_made", lambda given: module)
        return foreign.load("a:b", SHAPE, 10, CPU)[1]

    module = Head("mean")
    first = hashed(module)
    assert first == hashed(module)
    with torch.no_grad():
        module.head.bias[0] += 1
    assert first != hashed(module)
    network, total = foreign.load(str(three / "my-net.pt2"), SHAPE, 10, CPU)
    assert total == hashlib.sha256((three / "my-net.pt2").read_bytes()).hexdigest()
    weights = read_checkpoint(three / "net.safetensors").tensors
    torch.testing.assert_close(network.head, weights["head"])


def test_the_example_of_the_documentation_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "docs" / "stress.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert example.startswith("# mine.py\n")
    assert len(example.splitlines()) < 20
    (tmp_path / "mine.py").write_text(example)
    shapes = {"0": (16, 1, 4, 4), "2": (32, 16, 4, 4), "6": (10, 32)}
    weights = {f"{layer}.weight": torch.ones(shape) for layer, shape in shapes.items()}
    torch.save(
        weights | {f"{layer}.bias": torch.ones(shape[0]) for layer, shape in shapes.items()}, tmp_path / "mine.pt"
    )
    options = ["--images", "4", "--attacks", "aai_topk={kind: aai, steps: 1, eps: 0.2}"]
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(["stress", "--checkpoint", "mine:network", "--dataset", "digits", "--output", "mine", *options]) == 0
    )
    assert capsys.readouterr().out.splitlines()[0] == "mine/aai_topk.h5"
    assert len(read_result(Path("mine/aai_topk.h5")).arrays["index"]) == 4


# --- errors for people -----------------------------------------------------------------------------------

BROKEN = """
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
    ("given", "said"),
    [
        ("five", r"gives \[3, 5\] for 3 images of 10 classes, not logits"),
        ("pair", r"gives tuple for 3 images of 10 classes, not logits"),
        ("infinite", "gives logits that are not finite"),
        ("detached", "gives logits without a gradient"),
        ("chance", "depend on chance or on the other images"),
        ("batch", "depend on chance or on the other images"),
        ("squeezed", "depend on chance or on the other images"),
        ("colour", r"cannot take images \[3, 1, 28, 28\] \(.*channels"),
        ("weights", "gave a dict, not a torch.nn.Module"),
        ("number", "module 'broken_nets' has no function 'number'"),
        ("nothing", "module 'broken_nets' has no function 'nothing'"),
    ],
)
def test_functions_that_give_no_network(given: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_nets.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IrpipeError, match=rf"\Abroken_nets:{given}: .*{said}"):
        foreign.load(f"broken_nets:{given}", SHAPE, 10, CPU)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere_at_all:make", "--dataset", "digits"], "module 'nowhere_at_all' cannot be imported"),
        ([":make", "--dataset", "digits"], "module '' cannot be imported"),
        (["missing.pt2", "--dataset", "digits"], "missing.pt2: no such file"),
        (["text.pt2", "--dataset", "digits"], "text.pt2: not a readable torch.export file"),
        (["fixed.pt2", "--dataset", "digits"], "if it takes so many images only, export it with dynamic_shapes"),
        (["my-net.pt2"], "--dataset: missing"),
        (["net.onnx", "--dataset", "digits"], "neither NET.safetensors nor NET.pt2 nor module:function"),
        (["net.safetensors", "--dataset", "digits"], "says both itself"),
        (["my-net.pt2", "--dataset", "digits", "--name", "a b"], "--name: 'a b' is no name"),
        (["my-net.pt2", "--dataset", "digits", "--images", "0"], "--images, pgd.images: .*greater than or equal to 1"),
        (["my-net.pt2", "--dataset", "digits", "--attacks", "strnog"], "did you mean 'strong'"),
    ],
)
def test_one_line_for_what_is_wrong(
    arguments: list[str], said: str, three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(three)
    Path("text.pt2").write_text("text")
    if arguments[0] == "fixed.pt2":
        torch.export.save(torch.export.export(Head("mean"), (torch.zeros(5, *SHAPE),)), "fixed.pt2")
    assert cli.main(["stress", "--checkpoint", *arguments, "--output", "out"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert re.search(said, captured.err)
    assert not Path("out").exists()


def test_integrated_gradients_of_softplus_are_refused() -> None:
    with pytest.raises(IrpipeError, match="say literature"):
        _ = foreign.Foreign(Head("mean"), 10, None).softened
