"""Every command in this process: what it writes and what it prints."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ATTACK, RECIPE, TABLE, contents, evaluate, run

from irpipe import code_hash
from irpipe.datasets import load
from irpipe.networks.architectures import build_with_weights
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.result import read_result

CONFIG = """\
datasets: {digits: {kind: digits}}
attacks: {pgd: {kind: pgd}}
methods: {a: {kind: cross_entropy, adversarial: true}, b: {kind: interpretability_aware}}
recipes:
  r:
    {batch_size: 1, epochs: 1, lr: [[0, 1]], eps_schedule: [[0, 1]], inner_steps: 1,
     inner_step_size: 1}
networks:
  - {dataset: digits, model: pool, methods: [a, b], attacks: [pgd], recipe: r, seeds: 3}
tables: {t: {kind: accuracy_table, title: T}}
"""


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    assert run("check", "--config", config) == 0
    assert capsys.readouterr().out == f"{config}: 6 networks, 1 tables, 0 figures; all well\n"
    assert run("check") == 0


def test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.json"
    current = code_hash.of_data("digits")
    hashes = set()
    for split, n_images in (("train", 1397), ("test", 400)):
        arguments = ("--dataset", "digits", "--code", current, "--split", split)
        assert run("data", *arguments, "--output", path) == 0
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (record["split"], record["images"]) == (split, n_images)
        hashes.add(record["sha256"])
        assert f"digits: {n_images} {split} images" in capsys.readouterr().out
    assert len(hashes) == 2


def test_import(shared: Path, tmp_path: Path) -> None:
    source = shared / "released" / "networks" / "mnist_pool_adv_100.pkl"
    path = tmp_path / "net.safetensors"
    arguments = ("--dataset", "mnist", "--model", "pool", "--method", "adv", "--output", path)
    assert run("import", source, *arguments) == 0
    metadata = read_checkpoint(path).metadata
    name = [metadata[key] for key in ("dataset", "model", "method", "run")]
    assert name == ["mnist", "pool", "adv", "released"]


def test_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    network = ("--dataset", "digits", "--model", "small", "--method", "adv", "--run", "2")
    options = ("--recipe", RECIPE, "--device", "cpu")
    assert run("train", *network, *options, "--output", path) == 0
    metadata = read_checkpoint(path).metadata
    assert (metadata["method"], metadata["run"]) == ("adv", "seed2")
    assert (metadata["seed"], metadata["recipe"]["epochs"]) == (101, 2)
    with path.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        log = list(csv.DictReader(file))
    # 1,197 images, 200 at a time, in two epochs.
    assert [line["step"] for line in log] == ["5", "10"]
    assert all(float(line["loss"]) > 0 for line in log)
    clean_accuracy = float(log[-1]["clean_accuracy"])
    assert f"held-out accuracy {clean_accuracy:.3f}, " in capsys.readouterr().out
    # The state of the training is gone.
    files = {Path(name).name for name, content in contents(tmp_path).items() if content is not None}
    assert files == {"net.safetensors", "net.csv", "lock"}


def test_evaluate_prints_the_accuracies_that_it_writes(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint.with_name("out.h5")
    assert evaluate(checkpoint, ATTACK, path) == 0
    correct = read_result(path).arrays["correct"]
    assert correct.shape == (30, 3, 2)
    accuracy = correct.mean(axis=0)
    assert accuracy[0, 1] > accuracy[1, 1] > accuracy[2, 1]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["eps", "1", "steps", "3", "steps"]
    for line, eps, row in zip(lines[1:4], (0, 0.002, 0.1), accuracy, strict=True):
        assert [float(cell) for cell in line.split()] == pytest.approx([eps, *row], abs=5e-4)
    assert lines[4:] == ["accuracy on 30 test images", str(path)]


def test_a_result_says_what_it_comes_from(checkpoint: Path, result: Path) -> None:
    attrs = read_result(result).attrs
    expected = {
        "method": "int",
        "run": "seed7",
        "attack": "mine",
        "seed": 99,
        "network_sha256": read_checkpoint(checkpoint).sha256,
        "code_hash": code_hash.of_evaluation("digits", "pgd"),
        "protocol": ["C.4", "C.4 P1", "C.4 P8"],
    }
    assert {key: attrs[key] for key in expected} == expected


def test_a_result_is_of_the_first_images_of_a_permutation(checkpoint: Path, result: Path) -> None:
    """At eps = 0 the predictions are those of the clean images."""
    arrays = read_result(result).arrays
    indices = np.random.RandomState(99).permutation(400)[:30]
    assert arrays["indices"].tolist() == indices.tolist()
    test = load({"kind": "digits"}, Path("unused"), "test")
    assert arrays["label"].tolist() == test.labels[indices].tolist()
    tensors = read_checkpoint(checkpoint).tensors
    network = build_with_weights("small", (1, 28, 28), 10, tensors, "here")
    prediction = network(test.images[indices]).argmax(dim=1)
    assert arrays["prediction"][:, 0, 1].tolist() == prediction.tolist()


def test_the_batch_size_does_not_change_predictions(checkpoint: Path) -> None:
    results = []
    for batch_size in (30, 8):
        path = checkpoint.with_name(f"{batch_size}.h5")
        options = f"images: 30, steps: 2, eps: [0, 0.1], batch_size: {batch_size}"
        assert evaluate(checkpoint, f"mine={{kind: pgd, {options}}}", path) == 0
        results.append(read_result(path).arrays)
    for name in ("indices", "label", "prediction"):
        assert results[0][name].tolist() == results[1][name].tolist()
    np.testing.assert_allclose(results[0]["loss"], results[1]["loss"], atol=1e-3)


def test_report(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result.with_name("reports")
    assert run("report", "--table", TABLE, result, "--output", folder) == 0
    suffixes = ("csv", "parquet", "md", "tex", "html", "sha256")
    names = [f"table_mine.{suffix}" for suffix in suffixes]
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in names]
    assert sorted(contents(folder)) == sorted(names)
    figure = TABLE.replace("accuracy_table", "accuracy_curve")
    assert run("report", "--figure", figure, result, "--output", folder) == 0
    assert {"figure_mine.png", "figure_mine.pdf", "figure_mine.svg"} < set(contents(folder))


@pytest.mark.parametrize(
    "code",
    [
        "import irpipe.cli.report, irpipe.config, irpipe.code_hash, irpipe.results",
        "import irpipe.cli; assert irpipe.cli.main(['check']) == 0",
        "import irpipe.cli, contextlib\n"
        "with contextlib.suppress(SystemExit): irpipe.cli.main(['report', '--help'])",
    ],
)
def test_checking_and_help_start_without_torch(code: str) -> None:
    heavy = ("torch", "h5py", "sklearn", "matplotlib", "pandas")
    script = f"{code}\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
