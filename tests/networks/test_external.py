"""External networks give what a checkpoint with the same weights gives."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from external_networks import SHAPE, SmallGap, run_stress
from torch import nn

from irpipe import cli
from irpipe.errors import IrpipeError
from irpipe.networks import external
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.reports import masking_table
from irpipe.results.result import Result, read_result

CPU = torch.device("cpu")


def assert_equal_results(result: Result, expected: Result) -> None:
    """Assert that two results are equal, up to the sign of a vanishing gradient."""
    arrays, expected_arrays = result.arrays, expected.arrays
    clean_loss, expected_clean_loss = arrays["loss"][:, 0], expected_arrays["loss"][:, 0]
    np.testing.assert_allclose(clean_loss, expected_clean_loss, atol=1e-4)
    assert (arrays["correct"] == expected_arrays["correct"]).mean() > 0.97
    if "kendall_tau" in expected_arrays:
        difference = np.abs(arrays["kendall_tau"] - expected_arrays["kendall_tau"])
        assert np.median(difference) < 0.02


@pytest.mark.parametrize(
    ("source", "method"), [("my-net.pt2", "my_net"), ("three_forms:make", "make")]
)
def test_every_form_gives_what_a_checkpoint_gives(
    source: str,
    method: str,
    three_forms: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shared: dict[str, Any] = {"monkeypatch": monkeypatch, "folder": three_forms}
    expected = run_stress("net.safetensors", output=tmp_path / "expected", **shared)
    capsys.readouterr()
    results = run_stress(source, "--dataset", "digits", output=tmp_path / "results", **shared)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(results) == sorted(expected) == ["aai", "aai_gradcampp", "margin_pgd", "square"]
    for name, result in results.items():
        assert_equal_results(result, expected[name])
    correct = results["margin_pgd"].arrays["correct"]
    assert correct[:, 0].mean() > 0.5
    assert correct[:, 2, 1].mean() < 0.1
    attrs = results["margin_pgd"].attrs
    assert (attrs["method"], attrs["run"]) == (method, "external")
    assert attrs["code_hash"] == expected["margin_pgd"].attrs["code_hash"]
    assert len(attrs["network_sha256"]) == 64
    assert lines[2] == "  eps       0.0000 0.0200 0.2000"
    assert "signs of masking looked for; " in lines[-2]
    paths = masking_table.report(
        list(results.values()), tmp_path / "m", title="T", attacks=["margin_pgd", "square"]
    )
    (page,) = (path for path in paths if path.suffix == ".md")
    assert "black-box beats white-box" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("end", ["mean", "window", "dropout"])
def test_maps_are_of_the_layer_that_is_averaged(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SmallGap(end)
    monkeypatch.setattr(external, "call_function", lambda source: module)
    network, _ = external.load_external("a:b", SHAPE, 10, CPU)
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    features = module.features(images)
    assert network.has_maps
    torch.testing.assert_close(network.features(images), features)
    weight, bias = module.head.weight, module.head.bias
    maps = torch.einsum("ck,nkhw->nchw", weight, features) + bias[:, None, None]
    torch.testing.assert_close(network.maps(images), maps)
    torch.testing.assert_close(network.maps(images).mean(dim=(2, 3)), module(images))
    positive = torch.einsum("ck,nkhw->nchw", weight.clamp(min=0), features)
    torch.testing.assert_close(network.maps(images, positive_head=True), positive)
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("end", ["maximum", "convolution"])
def test_attacks_on_maps_are_left_out_if_no_head_is_over_averaged_features(
    end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(external, "call_function", lambda source: SmallGap(end))
    results = run_stress(
        "a:b", "--dataset", "digits", monkeypatch=monkeypatch, folder=tmp_path, output=tmp_path
    )
    assert sorted(results) == ["margin_pgd", "square"]
    message = "aai: left out, because it attacks maps and this network has none"
    assert message in capsys.readouterr().out


def test_the_hash_depends_on_the_weights_or_the_file(
    monkeypatch: pytest.MonkeyPatch, three_forms: Path
) -> None:
    def sha256(module: nn.Module) -> str:
        monkeypatch.setattr(external, "call_function", lambda source: module)
        return external.load_external("a:b", SHAPE, 10, CPU)[1]

    module = SmallGap("mean")
    before = sha256(module)
    assert before == sha256(module)
    with torch.no_grad():
        module.head.bias[0] += 1
    assert before != sha256(module)
    path = three_forms / "my-net.pt2"
    network, of_file = external.load_external(str(path), SHAPE, 10, CPU)
    assert of_file == hashlib.sha256(path.read_bytes()).hexdigest()
    weights = read_checkpoint(three_forms / "net.safetensors").tensors
    torch.testing.assert_close(network.head, weights["head"])


def test_the_example_of_the_documentation_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "stress.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    assert example.startswith("# mine.py\n")
    assert len(example.splitlines()) < 20
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(example, encoding="utf-8")
    shapes = {"0": (16, 1, 4, 4), "2": (32, 16, 4, 4), "6": (10, 32)}
    weights = {f"{layer}.weight": torch.ones(shape) for layer, shape in shapes.items()}
    weights |= {f"{layer}.bias": torch.ones(shape[0]) for layer, shape in shapes.items()}
    torch.save(weights, "mine.pt")
    network = ["--checkpoint", "mine:network", "--dataset", "digits"]
    attack = ["--images", "4", "--attacks", "aai_topk={kind: aai, steps: 1, eps: 0.2}"]
    assert cli.main(["stress", *network, "--output", "mine", *attack]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "mine/aai_topk.h5"
    assert len(read_result(Path("mine/aai_topk.h5")).arrays["indices"]) == 4


def test_integrated_gradients_with_softplus_are_refused() -> None:
    network = external.ExternalNetwork(SmallGap("mean"), 10, "")
    with pytest.raises(IrpipeError, match="say original"):
        _ = network.with_softplus
