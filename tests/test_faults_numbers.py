"""Networks without signal, or with too much, and machines without memory: a count, a reason, never a mean of NaN."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from irpipe import evaluate, stats
from irpipe.cli import main
from irpipe.io import Checkpoint, Result, read_result, write_checkpoint
from irpipe.models import build
from irpipe.optimise import draw_weights

IMAGES = 4
KINDS = {
    "aai": "steps: 2",
    "autoattack": "components: [apgd-ce], steps: 2",
    "gabor": "steps: 2",
    "isa": "steps: 2",
    "pgd": "steps: [1, 2]",
    "proposition": "penalties: [2, 3]",
    "saliency": "steps: 2",
    "strong": "steps: 2",
}


def network(path: Path, scale: float) -> Path:
    """A network whose weights are scaled: all 0 or 1e-15, whose maps are constant, or too large or NaN."""
    made = build("small", (1, 28, 28), 10)
    draw_weights(made, np.random.RandomState(0))
    about = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "method": "int", "run": "seed0"}
    tensors = {name: value.detach() * scale for name, value in made.state_dict().items()}
    write_checkpoint(path, Checkpoint(about, tensors))
    return path


def attacked(folder: Path, kind: str, scale: float) -> Result:
    path, entry = network(folder / "net.safetensors", scale), f"x={{kind: {kind}, images: {IMAGES}, {KINDS[kind]}}}"
    given = ["--checkpoint", str(path), "--attack", entry, "--device", "cpu", "--output", str(folder / "r.h5")]
    assert main(["evaluate", *given]) == 0
    return read_result(folder / "r.h5")


@pytest.mark.parametrize("scale", [0.0, 1e-15])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_maps_and_gradients_of_zero(kind: str, scale: float, tmp_path: Path) -> None:
    """Every attack fails; every image is there, every number finite, or marked as one that does not count."""
    found = attacked(tmp_path, kind, scale).arrays
    assert found["correct"].shape[0] == IMAGES
    assert (found["correct"] == found["correct"][:, :1, :1]).all()
    for name, array in found.items():
        if name == "normalised":
            assert not found["valid"][~np.isfinite(array)].any()
            assert (found["degenerate"][~np.isfinite(array)] > 0).all()
        else:
            assert np.isfinite(array).all(), name


def cells(folder: Path, kind: str, more: str = "") -> tuple[list[dict[str, str]], str]:
    """The records and the Markdown of a report on the result in a folder."""
    entry = f"t={{kind: {kind}, title: T, {more}}}"
    assert main(["report", "--table", entry, str(folder / "r.h5"), "--output", str(folder)]) == 0
    with (folder / "table_t.csv").open(newline="") as file:
        return list(csv.DictReader(file)), (folder / "table_t.md").read_text()


def test_reports_say_where_nothing_counts(tmp_path: Path) -> None:
    attacked(tmp_path, "pgd", 0.0)
    records, _ = cells(tmp_path, "table", "attack: x, steps: 2")
    assert {record["n"] for record in records} == {str(IMAGES)}
    assert all(0 <= float(record["low"]) <= float(record["value"]) <= float(record["high"]) for record in records)
    attacked(tmp_path, "isa", 0.0)
    records, shown = cells(tmp_path, "sneak", "attacks: [x]")
    assert {(record["images"], record["points"]) for record in records} == {("0", "0")}
    assert shown.count("– no image") == len(records) == 6
    attacked(tmp_path, "aai", 0.0)
    records, shown = cells(tmp_path, "correlation", "attack: x")
    assert {record["n"] for record in records} == {"0"}
    assert shown.count("n = 0") == len(records) == 5
    assert "nan" not in shown


@pytest.mark.parametrize("scale", [float("nan"), 1e15])
def test_networks_that_have_diverged(scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = network(tmp_path / "net.safetensors", scale), tmp_path / "r.h5"
    entry = "x={kind: pgd, images: 4, steps: 2}"
    assert main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(output)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "irpipe evaluate: error: the network gives logits that are not finite; train it again"
    assert not output.exists()


def test_statistics_refuse_what_is_not_finite() -> None:
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            stats.bootstrap(np.array([0.5, wrong]))
    assert np.isnan(stats.bootstrap(np.array([]))).all()  # of nothing: shown as n = 0
    assert stats.wilson(0, 0) == (0, 1)


# --- machines --------------------------------------------------------------------------------------------------


def greedy(*arguments: object, **options: object) -> None:
    torch.empty(1 << 50)


def out(*arguments: object, **options: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def spent(*arguments: object, **options: object) -> None:
    raise MemoryError


def lost(*arguments: object, **options: object) -> None:
    raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors might be ...")


MEMORY = "out of memory; use a machine with more or, for attacks, a smaller batch"
LOST = (
    "the GPU failed (CUDA error: unspecified launch failure); run it again, training goes on from its last state, "
    "or use --device cpu"
)


@pytest.mark.parametrize(("fault", "message"), [(greedy, MEMORY), (out, MEMORY), (spent, MEMORY), (lost, LOST)])
def test_machines_that_give_up(
    fault: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = network(tmp_path / "net.safetensors", 1.0), tmp_path / "r.h5"
    monkeypatch.setattr(evaluate, "_run", fault)
    entry = "x={kind: pgd, images: 4, steps: 2}"
    assert main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(output)]) == 2
    assert capsys.readouterr().err == f"irpipe evaluate: error: {message}\n"
    assert not output.exists()


def test_other_errors_of_torch_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = network(tmp_path / "net.safetensors", 1.0)
    monkeypatch.setattr(evaluate, "_run", lambda *arguments: torch.zeros(2) @ torch.zeros(3))
    entry = "x={kind: pgd, images: 4, steps: 2}"
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(tmp_path / "r.h5")])


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path, output = network(tmp_path / "net.safetensors", 1.0), tmp_path / "r.h5"
    given = ["--checkpoint", str(path), "--attack", "x={kind: pgd, images: 4, steps: 2}", "--output", str(output)]
    assert main(["evaluate", *given, "--device", "cuda"]) == 2
    assert "--device cuda: this torch sees no GPU; use --device cpu, or auto" in capsys.readouterr().err
    assert not output.exists()
    assert main(["evaluate", *given]) == 0
    found = read_result(output).attrs
    assert found["device"] == "cpu"  # the fallback stands in the result
    assert found["versions"]["device"].startswith("cpu (")


def test_smaller_batches_give_the_same_predictions(tmp_path: Path) -> None:
    """What the line about memory tells people to do."""
    path, found = network(tmp_path / "net.safetensors", 1.0), []
    for batch in (IMAGES, 1):
        output, entry = tmp_path / f"{batch}.h5", f"x={{kind: pgd, images: {IMAGES}, steps: 3, batch: {batch}}}"
        assert main(["evaluate", "--checkpoint", str(path), "--attack", entry, "--output", str(output)]) == 0
        found.append(read_result(output).arrays)
    for name in ("prediction", "correct", "index", "label"):
        assert found[0][name].tolist() == found[1][name].tolist()
