"""`irpipe stress`: its options, its estimate of the time, and its progress."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run, write_fitted_network
from made_batches import make_digit_batch
from torch import Tensor

from irpipe.attacks import _certified, aai, autoattack, margin_pgd, pgd
from irpipe.certification.root_bounds import certify_by_bounds
from irpipe.config.kinds import resolve_entry
from irpipe.datasets import load
from irpipe.evaluation.estimate import estimate_seconds, seconds_per_pass
from irpipe.networks.network import Network
from irpipe.results.labels import duration
from irpipe.results.result import read_result

PGD = "pgd={kind: pgd, steps: [1, 3]}"


def stress(folder: Path, *options: str) -> int:
    """The exit code of `irpipe stress` on a fitted network; results are in `folder`/o."""
    checkpoint = folder / "net.safetensors"
    if not checkpoint.exists():
        write_fitted_network(checkpoint)
    network = ("--checkpoint", checkpoint, "--device", "cpu", "--output", folder / "o")
    return run("stress", *network, *options)


def test_eps_and_images_replace_those_of_every_attack(tmp_path: Path) -> None:
    margin = "strong={kind: margin_pgd, steps: 2, images: 7, eps: 0.5}"
    options = ["--eps", "0.1", "8/255", "--images", "11"]
    assert stress(tmp_path, *options, "--attacks", PGD, margin) == 0
    for name in ("pgd", "strong"):
        result = read_result(tmp_path / "o" / f"{name}.h5")
        assert result.arrays["eps"].tolist() == [0, 0.1, 8 / 255]
        assert len(result.arrays["indices"]) == 11
    # The last of them is an attack on a network that has proofs.
    assert result.attrs["options"]["skip_certified"] is True
    maps = read_result(tmp_path / "o" / "maps.h5")
    assert maps.attrs["options"]["pgd_eps"] == 0.1  # digits has 0.2, which was not asked for
    assert len(maps.arrays["indices"]) == 11
    page = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "at ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.1 correctly" in page


def test_the_attacks_share_what_is_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 5 images is bounded once at 0.2 and, since it is not certified there, at 0.002."""
    bounded: list[float] = []

    def spy(network: Network, images: Tensor, labels: Tensor, eps: float) -> Iterator[Any]:
        bounded.extend([eps] * len(images))
        return certify_by_bounds(network, images, labels, eps)

    monkeypatch.setattr(_certified, "certify_by_bounds", spy)
    attacks = [
        "first={kind: margin_pgd, steps: 2}",
        "second={kind: autoattack, attacks_to_run: square, n_queries: 3, batch_size: 3}",
    ]
    options = ["--images", "5", "--eps", "0.2", "0.002", "--attacks"]
    assert stress(tmp_path, *options, *attacks) == 0
    shared = [read_result(tmp_path / "o" / f"{name}.h5").arrays for name in ("first", "second")]
    # At eps 0, 0.2 and 0.002. At the last one, the first attack breaks the fifth image.
    assert shared[0]["is_certified"][:, :, 0].sum(axis=0).tolist() == [0, 0, 4]
    assert shared[0]["correct"][:, :, 0].sum(axis=0).tolist() == [5, 0, 4]
    assert bounded == [0.2] * 5 + [0.002] * 5
    np.testing.assert_array_equal(shared[0]["is_certified"], shared[1]["is_certified"])


def test_bounds_are_asked_for_linf_alone(tmp_path: Path) -> None:
    attack = "strong={kind: margin_pgd, steps: 2}"
    options = ["--norm", "l2", "--eps", "0.5", "--images", "2", "--attacks", attack]
    assert stress(tmp_path, *options) == 0
    result = read_result(tmp_path / "o" / "strong.h5")
    assert result.attrs["options"]["skip_certified"] is False


@pytest.mark.parametrize("eps", ["2", "-0.1", "much", "1/0"])
def test_a_wrong_eps_is_one_line(
    eps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(tmp_path, f"--eps={eps}", "--attacks", PGD) == 2
    message = capsys.readouterr().err
    assert message.startswith("irpipe stress: error: --eps, pgd.eps")
    assert message.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_eps_0_alone_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--norm", "l2"]):
        assert stress(tmp_path, "--eps", "0", "0.0", *options, "--attacks", PGD) == 2
        message = capsys.readouterr().err
        assert message == (
            "irpipe stress: error: --eps 0: leaves nothing to attack; name an eps above 0\n"
        )
        assert not (tmp_path / "o").exists()


def test_the_time_is_estimated_before_the_first_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attacks = ["--images", "5", "--attacks", PGD, "maps_of={kind: isa, binary_search_steps: 1}"]
    assert stress(tmp_path, *attacks) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"time: at most \d\.\d s \(pgd \d\.\d s, maps_of not known\)", first)
    assert stress(tmp_path, *attacks) == 0
    assert "time:" not in capsys.readouterr().out  # nothing is left to do


def test_an_estimate_is_passes_times_images_times_seconds() -> None:
    """PGD takes 3 steps at 2 eps, each worth 3 passes: 18 passes for each of 50 images."""
    entry = {"kind": "pgd", "steps": [1, 3], "eps": [0, 0.1, 0.2], "images": 50}
    options = resolve_entry("attacks", entry, "here")
    assert estimate_seconds([options], 0.001, 10) == [pytest.approx(0.9)]


@pytest.mark.parametrize(("n_images", "n_rows"), [(2, 4), (120, 200)])
def test_the_timed_pass_has_as_many_rows_as_the_attacks(n_images: int, n_rows: int) -> None:
    """Two eps above 0 make two rows of each image; 200 rows are enough."""
    counts = []

    def logits(images: Tensor) -> Tensor:
        counts.append(len(images))
        return images.flatten(1)[:, :10]

    network: Any = SimpleNamespace(folded=logits)
    test = load({"kind": "digits"}, Path(), "test")
    attack = {"kind": "pgd", "eps": [0, 0.1, 0.2], "images": n_images}
    alone = {"kind": "isa", "images": 1}
    assert seconds_per_pass(network, test, [alone, attack], torch.device("cpu")) > 0
    assert sum(counts) == 4 * n_rows  # three passes are timed, after one that is not


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        (pgd, {"steps": [2, 5]}),
        (pgd, {"steps": [2, 5], "step_size_factor": 2.5}),
        (margin_pgd, {"steps": [2, 3], "restarts": 2}),
        (aai, {"steps": 4, "hinge_weight": 1}),
        (aai, {"steps": 4}),
        (autoattack, {"steps": 3, "n_queries": 20}),
        (autoattack, {"attacks_to_run": "square", "n_queries": 20}),
    ],
)
def test_no_attack_calls_the_network_more_often_than_it_says(
    kind: ModuleType, entry: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But at least a third as often, where no image is broken early and no eps is too small."""
    batch = make_digit_batch(6)
    name = kind.__name__.rpartition(".")[2]
    options = resolve_entry("attacks", {"kind": name, "eps": EPS[name]} | entry, "here")
    calls: list[int] = []

    for method in ("__call__", "maps"):
        original = getattr(type(batch.folded), method)

        def counted(
            folded: object, images: Tensor, original: Any = original, **keywords: Any
        ) -> Tensor:
            calls.append(len(images) * (3 if images.requires_grad else 1))
            output: Tensor = original(folded, images, **keywords)
            return output

        monkeypatch.setattr(type(batch.folded), method, counted)
    keywords = {key: value for key, value in options.items() if key in ARGUMENTS[name]}
    list(kind.attack(batch, **keywords))
    limit = kind.n_passes(options, 2, 10) * len(batch.images)
    n_checks = 30 * len(batch.images)
    assert limit / 3 <= sum(calls) <= limit + n_checks


EPS = {
    "pgd": [0.3, 0.4],
    "aai": [0.3, 0.4],
    "margin_pgd": [0.001, 0.002],
    "autoattack": [0.001, 0.002],
}
ARGUMENTS = {
    "pgd": ("eps", "steps", "step_size_factor"),
    "margin_pgd": ("eps", "steps", "restarts"),
    "aai": ("eps", "steps", "hinge_weight"),
    "autoattack": ("eps", "steps", "n_queries", "attacks_to_run"),
}


def test_autoattack_shows_its_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square = "square={kind: autoattack, attacks_to_run: square, n_queries: 30, eps: [0.01, 0.02]}"
    assert stress(tmp_path, "--images", "5", "--attacks", square) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("square")]
    assert re.search(r"images 1 to 5 of 5: \d+/66 passes, \d+ s left$", lines[0])
    assert re.search(r": 66/66 passes, 0 s left$", lines[-1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (9.96, "10 s"), (59.6, "1:00 min"), (359, "5:59 min"), (7530, "2:05 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_another_norm_is_named_in_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attacks = [PGD, "strong={kind: margin_pgd, steps: [1, 2]}", "aai={kind: aai, steps: 1}"]
    assert (
        stress(
            tmp_path, "--norm", "l2", "--eps", "0.5", "2", "--images", "6", "--attacks", *attacks
        )
        == 0
    )
    assert "aai: left out, because it has no l2 version" in capsys.readouterr().out
    folder = tmp_path / "o"
    for name in ("pgd", "strong"):
        result = read_result(folder / f"{name}.h5")
        assert result.attrs["eps_norm"] == "l2"
        assert result.arrays["eps"].tolist() == [0, 0.5, 2]
        assert result.arrays["l2_distance"].max() <= 2 + 1e-6
    assert read_result(folder / "pgd.h5").attrs["options"]["step_size_factor"] == 2.5
    frame = pd.read_csv(folder / "results.csv")
    assert set(frame["eps_norm"]) == {"l2"}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["threat_model"], summary["eps"]) == ("L2", 2)
    page = (folder / "report.html").read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "ε (\N{SCRIPT SMALL L}2 bound, pixels in [0, 1])" in page
    assert "at ε = 2 (\N{SCRIPT SMALL L}2) correctly" in page
    assert "5 of 8 signs of masking were looked for" in page
    assert "aai</td>" in page
    assert "left out: it has no l2 version" in page


def test_more_images_than_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """digits has 400 test images."""
    one_step = "one={kind: pgd, steps: 1, eps: 0.1, images: 2000}"
    assert stress(tmp_path, "--attacks", one_step, "--images", "401") == 2
    assert "--images 401: the test set has 400" in capsys.readouterr().err
    assert stress(tmp_path, "--attacks", one_step) == 0
    assert "the test set has 400 images: each attack takes all" in capsys.readouterr().out
    assert len(read_result(tmp_path / "o" / "one.h5").arrays["indices"]) == 400


def test_another_norm_needs_eps_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(tmp_path, "--norm", "l1", "--attacks", PGD) == 2
    assert "--norm l1: say --eps, too; the data set's are l-inf bounds" in capsys.readouterr().err
