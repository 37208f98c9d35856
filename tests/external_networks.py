"""Networks that irpipe did not make, and `irpipe stress` on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_batches import fit_head
from torch import Tensor, nn

from irpipe import cli
from irpipe.networks.architectures import build
from irpipe.networks.checkpoint import Checkpoint, write_checkpoint
from irpipe.networks.network import Network
from irpipe.results.result import Result, read_result
from irpipe.training.weight_init import draw_weights

SHAPE = (1, 28, 28)
OPTIONS = "images: 20, eps: [0, 0.02, 0.2]"
AAI = f"kind: aai, steps: 10, {OPTIONS}"
ATTACKS = [
    f"margin_pgd={{kind: margin_pgd, steps: [1, 5], {OPTIONS}}}",
    f"square={{kind: autoattack, attacks_to_run: square, n_queries: 20, {OPTIONS}}}",
    f"aai={{hinge_weight: 1, {AAI}}}",
    f"aai_gradcampp={{interpreter: gradcampp, loss: two_class, {AAI}}}",
]


class PlainSmall(nn.Module):
    """Small by torch's layers alone, its end as anyone would write it (C.1)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.body = nn.Sequential(*network.backbone, network.last_conv)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(100, 10, bias=False)
        self.head.weight = network.head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.body(images)).flatten(1))
        return logits


def fitted_network() -> Network:
    """Return Small for digits: random features, and a head fitted to them.

    Its weights have torch's default layout, which torch.export needs.
    """
    network = build("small", SHAPE, 10)
    draw_weights(network, np.random.RandomState(1))
    fit_head(network)
    converted: Network = network.to(  # type: ignore[call-overload]
        memory_format=torch.contiguous_format
    )
    return converted


class SmallGap(nn.Module):
    """One convolution and a head with a bias, which normalises its images itself.

    `end` chooses how the features are pooled, or a convolution in place of the head.
    """

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end = end
        self.body = nn.Conv2d(1, 4, 3, stride=4)
        self.head = nn.Linear(4, 10)
        self.dropout = nn.Dropout()
        self.convolution = nn.Conv2d(4, 10, 1)

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.body((images - 0.1) / 0.3).relu()
        return features

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.features(images)
        if self.end == "convolution":
            return self.convolution(hidden).mean(dim=(2, 3))  # type: ignore[no-any-return]
        pooled = {
            "mean": lambda: hidden.mean((-1, -2)),
            "window": lambda: nn.functional.avg_pool2d(hidden, 7).flatten(1),
            "dropout": lambda: self.dropout(
                nn.functional.adaptive_avg_pool2d(hidden, 1)[..., 0, 0]
            ),
            "maximum": lambda: hidden.amax((-1, -2)),
        }[self.end]()
        return self.head(pooled)  # type: ignore[no-any-return]


def write_three_forms(folder: Path) -> None:
    """Write one network as a checkpoint, a torch.export file and a function.

    They are net.safetensors, my-net.pt2 and three_forms:make.
    """
    network = fitted_network()
    metadata = {
        "dataset": "digits",
        "data": {"kind": "digits"},
        "model": "small",
        "method": "int",
        "run": "seed7",
    }
    tensors = {name: value.detach() for name, value in network.state_dict().items()}
    write_checkpoint(folder / "net.safetensors", Checkpoint(metadata, tensors))
    exported = torch.export.export(
        PlainSmall(network).eval(),
        (torch.zeros(2, *SHAPE),),
        dynamic_shapes=({0: torch.export.Dim.AUTO},),
    )
    torch.export.save(exported, folder / "my-net.pt2")
    source = """
from external_networks import PlainSmall, fitted_network
def make():
    return PlainSmall(fitted_network())
"""
    (folder / "three_forms.py").write_text(source, encoding="utf-8")


def run_stress(
    source: str, *options: str, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Result]:
    """Run `irpipe stress --checkpoint source` in `folder`; return the results by attack.

    The maps of the page are not among them.
    """
    monkeypatch.chdir(folder)
    arguments = ["stress", "--checkpoint", source, "--device", "cpu", "--output", str(output)]
    assert cli.main([*arguments, *options, "--attacks", *ATTACKS]) == 0
    paths = sorted(path for path in output.glob("*.h5") if path.stem != "maps")
    return {path.stem: read_result(path) for path in paths}
