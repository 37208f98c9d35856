"""Networks without signal or with too much, and machines without memory.

A report shows a count and a reason, never a mean of NaN.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import evaluate, run, write_network
from made_batches import DIGIT_SHAPE, make_network

from irpipe import evaluation, statistics
from irpipe.results.result import Result, read_result

N_IMAGES = 4
# Kinds of attacks, and options that make them cheap.
OPTIONS = {
    "aai": "steps: 2",
    "autoattack": "attacks_to_run: [apgd-ce], steps: 2",
    "certify": "leaves: 60, eps: [0, 0.1]",
    "gabor": "steps: 2",
    "isa": "steps: 2",
    "pgd": "steps: [1, 2]",
    "proposition1": "eps_multipliers: [2, 3]",
    "pgd_maps": "steps: 2",
    "margin_pgd": "steps: 2",
}
PGD = f"x={{kind: pgd, images: {N_IMAGES}, steps: 2}}"


def write_scaled_network(path: Path, scale: float) -> Path:
    """Write a network whose weights are multiplied by `scale`.

    By 0 and 1e-15, maps become constant; by 1e15 and NaN, logits are not finite.
    """
    network = make_network(0, DIGIT_SHAPE, 10)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(scale)
    return write_network(path, network)


def attack_scaled_network(folder: Path, kind: str, scale: float) -> Result:
    network = write_scaled_network(folder / "net.safetensors", scale)
    entry = f"x={{kind: {kind}, images: {N_IMAGES}, {OPTIONS[kind]}}}"
    assert evaluate(network, entry, folder / "r.h5") == 0
    return read_result(folder / "r.h5")


@pytest.mark.parametrize("scale", [0.0, 1e-15])
@pytest.mark.parametrize("kind", OPTIONS)
def test_constant_maps_and_gradients_of_zero_give_finite_numbers(
    kind: str, scale: float, tmp_path: Path
) -> None:
    """Every attack fails. Only normalised_discrepancy may be NaN, of points that do not count."""
    arrays = attack_scaled_network(tmp_path, kind, scale).arrays
    assert arrays["correct"].shape[0] == N_IMAGES
    assert (arrays["correct"] == arrays["correct"][:, :1, :1]).all()
    for name, array in arrays.items():
        if name == "normalised_discrepancy":
            is_nan = ~np.isfinite(array)
            assert not arrays["is_valid"][is_nan].any()
            assert (arrays["n_constant_maps"][is_nan] > 0).all()
        else:
            assert np.isfinite(array).all(), name


def make_table(folder: Path, kind: str, options: str) -> tuple[list[dict[str, str]], str]:
    """The records and the Markdown of a table of the result in a folder."""
    entry = f"t={{kind: {kind}, title: T, {options}}}"
    assert run("report", "--table", entry, folder / "r.h5", "--output", folder) == 0
    with (folder / "table_t.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), (folder / "table_t.md").read_text(encoding="utf-8")


def test_accuracy_tables_of_a_network_of_zeros_have_intervals(tmp_path: Path) -> None:
    attack_scaled_network(tmp_path, "pgd", 0.0)
    records, _ = make_table(tmp_path, "accuracy_table", "attack: x, steps: 2")
    assert {record["n"] for record in records} == {str(N_IMAGES)}
    for record in records:
        assert 0 <= float(record["low"]) <= float(record["value"]) <= float(record["high"])


def test_isa_tables_say_that_no_image_counts(tmp_path: Path) -> None:
    attack_scaled_network(tmp_path, "isa", 0.0)
    records, text = make_table(tmp_path, "isa_table", "attacks: [x]")
    counts = {(record["n_images"], record["n_points"]) for record in records}
    assert counts == {("0", "0")}
    assert text.count("– no image") == len(records) == 6


def test_tau_tables_say_that_no_image_counts(tmp_path: Path) -> None:
    attack_scaled_network(tmp_path, "aai", 0.0)
    records, text = make_table(tmp_path, "tau_table", "attack: x")
    assert {record["n"] for record in records} == {"0"}
    assert text.count("n = 0") == len(records) == 5
    assert "nan" not in text


@pytest.mark.parametrize("scale", [float("nan"), 1e15])
def test_networks_that_have_diverged_are_refused(
    scale: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = write_scaled_network(tmp_path / "net.safetensors", scale)
    assert evaluate(network, PGD, tmp_path / "r.h5") == 2
    message = "the network gives logits that are not finite; train it again"
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line == f"irpipe evaluate: error: {message}"
    assert not (tmp_path / "r.h5").exists()


def test_statistics_refuse_what_is_not_finite() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            statistics.bootstrap(np.array([0.5, value]))


def test_statistics_of_no_images_are_nan_or_the_widest_interval() -> None:
    """Tables show them as n = 0."""
    assert np.isnan(statistics.bootstrap(np.array([]))).all()
    assert statistics.wilson(0, 0) == (0, 1)


def ask_for_a_petabyte(*arguments: object, **options: object) -> None:
    torch.empty(1 << 50)


def run_out_of_gpu_memory(*arguments: object, **options: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def run_out_of_memory(*arguments: object, **options: object) -> None:
    raise MemoryError


def lose_the_gpu(*arguments: object, **options: object) -> None:
    raise torch.AcceleratorError(
        "CUDA error: unspecified launch failure\nCUDA kernel errors might be ..."
    )


OUT_OF_MEMORY = "out of memory; use a machine with more or, for attacks, a smaller batch_size"
GPU_FAILED = (
    "the GPU failed (CUDA error: unspecified launch failure); run it again, "
    "training goes on from its last state, or use --device cpu"
)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (ask_for_a_petabyte, OUT_OF_MEMORY),
        (run_out_of_gpu_memory, OUT_OF_MEMORY),
        (run_out_of_memory, OUT_OF_MEMORY),
        (lose_the_gpu, GPU_FAILED),
    ],
)
def test_a_machine_that_gives_up_is_one_line(
    fault: object,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = write_scaled_network(tmp_path / "net.safetensors", 1.0)
    monkeypatch.setattr(evaluation, "_attack_batch", fault)
    assert evaluate(network, PGD, tmp_path / "r.h5") == 2
    line = f"irpipe evaluate: error: x on {network}: {message}\n"
    assert capsys.readouterr().err == line
    assert not (tmp_path / "r.h5").exists()


def test_other_errors_of_torch_keep_their_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def multiply_wrong_shapes(*arguments: object) -> torch.Tensor:
        return torch.zeros(2) @ torch.zeros(3)

    network = write_scaled_network(tmp_path / "net.safetensors", 1.0)
    monkeypatch.setattr(evaluation, "_attack_batch", multiply_wrong_shapes)
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        evaluate(network, PGD, tmp_path / "r.h5")


def test_without_a_gpu_cuda_is_refused_and_auto_takes_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    network = write_scaled_network(tmp_path / "net.safetensors", 1.0)
    path = tmp_path / "r.h5"
    arguments = ("evaluate", "--checkpoint", network, "--attack", PGD, "--output", path)
    assert run(*arguments, "--device", "cuda") == 2
    message = "--device cuda: this torch sees no GPU; use --device cpu, or auto"
    assert message in capsys.readouterr().err
    assert not path.exists()
    assert run(*arguments) == 0
    attrs = read_result(path).attrs
    assert attrs["device"] == "cpu"
    assert attrs["versions"]["device"].startswith("cpu (")


def test_smaller_batches_give_the_same_predictions(tmp_path: Path) -> None:
    """The line about memory tells people to use smaller batches."""
    network = write_scaled_network(tmp_path / "net.safetensors", 1.0)
    arrays = []
    for batch_size in (N_IMAGES, 1):
        path = tmp_path / f"{batch_size}.h5"
        options = f"images: {N_IMAGES}, steps: 3, batch_size: {batch_size}"
        assert evaluate(network, f"x={{kind: pgd, {options}}}", path) == 0
        arrays.append(read_result(path).arrays)
    for name in ("prediction", "correct", "indices", "label"):
        assert arrays[0][name].tolist() == arrays[1][name].tolist()
