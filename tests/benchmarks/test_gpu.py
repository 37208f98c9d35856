"""`make gpu`: its page, and its measurements in small on a device without a GPU."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import gpu, pgd, training
from benchmarks.common import comparison
from benchmarks.plain import PlainNetwork
from command_line import write_fitted_network
from pretended_device import DEVICE, PretendedDevice

from irpipe import config
from irpipe.documents import write

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_without_a_gpu_it_declines_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["gpu", "--data", ".", "--released", ".", "--output", str(tmp_path / "measured")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="sees no GPU"):
        gpu.main()
    assert not (tmp_path / "measured").exists()


def test_make_docs_puts_the_measurements_on_the_page_and_keeps_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = [
        comparison("adv", "plain autograd", [2.25], [15], "-"),
        comparison("trades", "plain autograd", [3.0], [16.5], "-"),
        comparison("int", "plain autograd", [4.5], [15], "-"),
    ]
    tables = [
        {"network": "mnist small", "methods": 8, "irpipe, s": 20.5},
        {"network": "cifar10 small", "methods": 8, "irpipe, s": 30.25},
    ]
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    measured = {
        "gpu_goals": list(gpu.goals(tables, trained)),
        "gpu_pgd_tables": tables,
        "gpu_pgd": [comparison("PGD, mnist small int", "torchattacks", [0.25], [5], "16 cells")],
        "gpu_training": trained,
    }
    gpu.write(measured, torch.device("cuda", 0), tmp_path / "results/measurements")
    docs = shutil.copytree(DOCS, tmp_path / "docs")
    write.main([str(tmp_path / "results"), "--output", str(docs)])
    for name in ("reproduction.md", "verdict.md", "benchmarks.md"):
        assert (docs / name).read_bytes() == (DOCS / name).read_bytes()
    text = (docs / "benchmarks_gpu.md").read_text(encoding="utf-8")
    assert "on:\n\n- NVIDIA H100; " in text
    assert "*Not run.*" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row for row in rows if "---" not in row] == [
        "| goal | measured | met |",
        "| PGD tables in 60 s | 50.8 | yes |",
        "| epoch of adv in 2.5 s | 2.25 | yes |",
        "| epoch of int in 4.0 s | 4.5 | no |",
        "| every epoch 5 times faster than plain autograd | 3.33 | no |",
        "| network | methods | irpipe, s |",
        "| mnist small | 8 | 20.5 |",
        "| cifar10 small | 8 | 30.2 |",
        "| work | against | irpipe, s | other, s | ratio | equal |",
        "| PGD, mnist small int | torchattacks | 0.25 | 5 | 20 | 16 cells |",
        "| work | against | irpipe, s | other, s | ratio | equal |",
        "| adv | plain autograd | 2.25 | 15 | 6.67 | - |",
        "| trades | plain autograd | 3 | 16.5 | 5.5 | - |",
        "| int | plain autograd | 4.5 | 15 | 3.33 | - |",
    ]


@pytest.mark.parametrize("other", ["torchattacks", "released loop"])
def test_both_sides_of_pgd_run_on_the_device(other: str, tmp_path: Path) -> None:
    path = write_fitted_network(tmp_path / "net.safetensors")
    with PretendedDevice():
        accuracies = pgd.irpipe_accuracies(path, Path(), 4, DEVICE, [1, 2])
        expected = pgd.other_accuracies(path, Path(), 4, pgd.ATTACKS[other], DEVICE, [1, 2])
    np.testing.assert_allclose(accuracies, expected)


def test_both_sides_of_a_training_step_run_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config.lookup("recipes", "timing", None) | {"inner_steps": 1, "batch_size": 4}
    entries = {"datasets": {"kind": "digits"}, "recipes": recipe}
    lookup = config.lookup
    monkeypatch.setattr(
        config, "lookup", lambda part, name, path: entries.get(part) or lookup(part, name, path)
    )
    with PretendedDevice():
        trainer, take_step = training.irpipe_step("int", Path(), DEVICE)
        images = trainer.training.images[:4].to(DEVICE)
        labels = trainer.training.labels[:4].to(DEVICE)
        network = PlainNetwork(trainer.network)
        before = trainer.network.head.detach().clone()
        take_step()
        training.plain_step("int", network, images, labels)()
        assert not torch.equal(trainer.network.head, before)
        assert not torch.equal(network.head.weight, before)
