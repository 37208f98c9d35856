"""One command, on a network of torchvision and a folder of PNGs, ends in a page."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from command_line import run
from PIL import Image

NETWORK = """
import torch
import torchvision

def resnet18() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=3)
"""
OPTIONS = "images: 12, batch_size: 12"
ATTACKS = [
    f"pgd={{kind: pgd, steps: [1, 2], {OPTIONS}}}",
    f"margin_pgd={{kind: margin_pgd, steps: [1, 2], restarts: 1, {OPTIONS}}}",
    f"aai_topk={{kind: aai, hinge_weight: 1, steps: 1, top_k: 2, {OPTIONS}}}",
]


def write_photographs(folder: Path) -> None:
    """Four PNGs of each of three classes, each of another size."""
    rng = np.random.RandomState(0)
    for name in ("cat", "dog", "frog"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.randint(256, size=(70 + i, 90, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def test_a_resnet_and_a_folder_of_pngs(
    tmp_path: Path, chromium: Chromium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETWORK, encoding="utf-8")
    write_photographs(tmp_path / "photographs")
    network = ("--checkpoint", "./nets.py:resnet18", "--device", "cpu", "--output", "out")
    dataset = "mine={kind: imagefolder, path: photographs, size: 64}"
    assert (
        run("stress", *network, "--dataset", dataset, "--save-images", "--attacks", *ATTACKS) == 0
    )
    for width in (390, 1200):
        with chromium.page(width, 900) as page:
            page.open(tmp_path / "out" / "report.html")
            assert page.run("document.documentElement.scrollWidth") == width
            for name in ("accuracy", "accuracy_maps", "tau"):
                assert page.run(f"document.querySelector('#plot-{name} svg').clientHeight") > 200
            for name in ("attacks", "accuracies", "signs", "tau", "network", "sources"):
                assert page.run(f"document.querySelectorAll('#table-{name} tbody tr').length") > 0
            assert page.run("[...document.images].every(image => image.naturalWidth > 60)")
            assert "8/255" in page.run("document.querySelector('.verdict').textContent")
            assert page.errors == []
            (command,) = page.run("[...document.querySelectorAll('code')].map(e => e.textContent)")
    program, *arguments = shlex.split(command.replace("ATTACK", "pgd"))
    assert program == "irpipe"
    assert run(*arguments) == 0
