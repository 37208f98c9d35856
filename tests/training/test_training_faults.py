"""Weights do not depend on the number of threads, and no held-out images have no accuracy."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run

from irpipe.datasets import digits
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.training_log import read_training_log

RECIPE = (
    "q={batch_size: 50, epochs: 1, lr: [[0, 0.002]], eps_schedule: [[0, 1]], "
    "inner_steps: 1, inner_step_size: 0.05}"
)


def train(path: Path, method: str) -> dict[str, torch.Tensor]:
    """Train Small on digits for one epoch; return its weights."""
    arguments = ("--dataset", "digits", "--model", "small", "--method", method)
    options = ("--recipe", RECIPE, "--device", "cpu", "--output", path)
    assert run("train", *arguments, *options) == 0
    return read_checkpoint(path).tensors


@pytest.mark.parametrize(
    "method",
    [
        "normal={kind: cross_entropy, adversarial: false}",
        "int={kind: interpretability_aware}",
    ],
)
def test_weights_do_not_depend_on_the_number_of_threads(method: str, tmp_path: Path) -> None:
    n_threads = torch.get_num_threads()
    weights = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            weights.append(train(tmp_path / f"{count}.safetensors", method))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(n_threads)
    for other in weights[1:]:
        assert all(torch.equal(other[name], value) for name, value in weights[0].items())


def test_without_held_out_images_there_is_no_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digits, "N_VALIDATION", 0)
    path = tmp_path / "net.safetensors"
    train(path, "normal={kind: cross_entropy, adversarial: false}")
    printed = capsys.readouterr()
    assert "held-out accuracy: none, because no image of this data set is held out" in printed.out
    assert "clean 0.000" not in printed.err
    log = path.with_suffix(".csv")
    with log.open(newline="", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert (line["clean_accuracy"], line["attacked_accuracy"]) == ("", "")
    arrays: dict[str, Any] = read_training_log(log).arrays
    assert np.isnan(arrays["clean_accuracy"]).tolist() == [True]
    assert np.isfinite(arrays["loss"]).all()
    figure = ("--figure", "f={kind: training_curves, title: T}")
    assert run("report", *figure, log, "--output", tmp_path / "r") == 0
