"""Every subcommand in-process: what it writes and prints, and one line with exit code 2 for whatever is wrong."""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from irpipe import cli, codehash
from irpipe.data import load
from irpipe.io import Checkpoint, read_checkpoint, read_result, write_checkpoint
from irpipe.models import build, from_tensors
from irpipe.optimise import draw_weights

RECIPE = "tiny={batch: 200, epochs: 2, rate: [[0, 0.001]], ramp: [[0, 1]], steps: 1, step_size: 0.05}"
ATTACK = "mine={kind: pgd, images: 30, steps: [1, 3], eps: [0, 0.002, 0.1]}"
TABLE = "mine={kind: table, title: T, attack: mine, steps: 3}"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network for digits, as drawn but for a fitted head, in a folder of its own."""
    network, digits = build("small", (1, 28, 28), 10), load({"kind": "digits"}, Path("unused"), "train")
    draw_weights(network, np.random.RandomState(1))
    with torch.no_grad():
        features = network.features(digits.images[:400]).mean(dim=(2, 3))
        network.head.copy_(torch.linalg.lstsq(features, torch.eye(10)[digits.labels[:400]]).solution.T)
    about = {"dataset": "digits", "data": {"kind": "digits"}, "model": "small", "method": "int", "run": "seed7"}
    tensors = {name: value.detach() for name, value in network.state_dict().items()}
    write_checkpoint(tmp_path / "in" / "net.safetensors", Checkpoint(about, tensors))
    return tmp_path / "in" / "net.safetensors"


@pytest.fixture
def result(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = checkpoint.with_name("result.h5")
    assert run("evaluate", "--checkpoint", checkpoint, "--attack", ATTACK, "--device", "cpu", "--output", path) == 0
    capsys.readouterr()
    return path


def run(*arguments: object) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# --- what each command does ----------------------------------------------------------------------------


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(
        "datasets: {digits: {kind: digits}}\nattacks: {pgd: {kind: pgd}}\n"
        "methods: {a: {kind: standard, attacked: true}, b: {kind: interp}}\n"
        "recipes: {r: {batch: 1, epochs: 1, rate: [[0, 1]], ramp: [[0, 1]], steps: 1, step_size: 1}}\n"
        "networks: [{dataset: digits, model: pool, methods: [a, b], attacks: [pgd], recipe: r, seeds: 3}]\n"
        "tables: {t: {kind: table, title: T}}\n"
    )
    assert run("check", "--config", config) == 0
    assert capsys.readouterr().out == f"{config}: 6 networks, 1 tables, 0 figures; all well\n"
    assert run("check") == 0


def test_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.json"
    code = codehash.of_data("digits")  # the right one is accepted
    hashes = set()
    for split, count in (("train", 1397), ("test", 400)):
        assert run("data", "--dataset", "digits", "--code", code, "--split", split, "--output", path) == 0
        record = json.loads(path.read_text())
        assert (record["split"], record["images"]) == (split, count)
        hashes.add(record["sha256"])
        assert f"digits: {count} {split} images" in capsys.readouterr().out
    assert len(hashes) == 2


def test_import(shared: Path, tmp_path: Path) -> None:
    source, path = shared / "released" / "networks" / "mnist_pool_adv_100.pkl", tmp_path / "net.safetensors"
    given = ("--dataset", "mnist", "--model", "pool", "--method", "adv", "--output", path)
    assert run("import", source, *given) == 0
    about = read_checkpoint(path).metadata
    assert "/".join(about[key] for key in ("dataset", "model", "method", "run")) == "mnist/pool/adv/released"


def test_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.safetensors"
    given = ("--dataset", "digits", "--model", "small", "--method", "adv", "--recipe", RECIPE, "--run", "2")
    assert run("train", *given, "--device", "cpu", "--output", path) == 0
    about = read_checkpoint(path).metadata
    assert (about["method"], about["run"], about["seed"], about["recipe"]["epochs"]) == ("adv", "seed2", 101, 2)
    with path.with_suffix(".csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    assert [row["step"] for row in log] == ["5", "10"]  # 1,197 images, 200 at a time
    assert all(float(row["loss"]) > 0 for row in log)
    assert f"held-out accuracy {float(log[-1]['clean_accuracy']):.3f}, " in capsys.readouterr().out
    files = {name for name, content in everything(tmp_path).items() if content is not None}
    assert {Path(name).name for name in files} == {"net.safetensors", "net.csv", "lock"}  # the state is gone


def test_evaluate_prints_the_accuracies_it_writes(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint.with_name("out.h5")
    assert run("evaluate", "--checkpoint", checkpoint, "--attack", ATTACK, "--device", "cpu", "--output", path) == 0
    found, stored = read_result(path), read_checkpoint(checkpoint)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["radius", "1", "steps", "3", "steps"]
    accuracy = found.arrays["correct"].mean(axis=0)
    assert accuracy[0, 1] > accuracy[1, 1] > accuracy[2, 1]
    for line, radius, row in zip(lines[1:4], (0, 0.002, 0.1), accuracy, strict=True):
        assert [float(cell) for cell in line.split()] == pytest.approx([radius, *row], abs=5e-4)
    assert lines[4:] == ["accuracy on 30 test images", str(path)]
    assert found.arrays["correct"].shape == (30, 3, 2)
    assert found.arrays["index"].tolist() == np.random.RandomState(99).permutation(400)[:30].tolist()
    expected = {"method": "int", "run": "seed7", "attack": "mine", "seed": 99, "network_sha256": stored.sha256}
    assert {key: found.attrs[key] for key in expected} == expected
    assert found.attrs["code"] == codehash.of_evaluation("digits", "pgd")
    assert found.attrs["protocol"] == ["C.4", "C.4 P1", "C.4 P8"]
    index, images = found.arrays["index"], load({"kind": "digits"}, Path("unused"), "test")
    clean = from_tensors("small", (1, 28, 28), 10, stored.tensors, "here")(images.images[index])
    assert found.arrays["prediction"][:, 0, 1].tolist() == clean.argmax(dim=1).tolist()
    assert found.arrays["label"].tolist() == images.labels[index].tolist()


def test_batches_of_images_give_the_same_clean_row(checkpoint: Path) -> None:
    paths = [checkpoint.with_name(f"{batch}.h5") for batch in (30, 8)]
    for path, batch in zip(paths, (30, 8), strict=True):
        entry = f"mine={{kind: pgd, images: 30, steps: 2, eps: [0, 0.1], batch: {batch}}}"
        assert run("evaluate", "--checkpoint", checkpoint, "--attack", entry, "--output", path) == 0
    one, other = (read_result(path).arrays for path in paths)
    for name in ("index", "label", "prediction"):
        assert one[name].tolist() == other[name].tolist()
    np.testing.assert_allclose(one["loss"], other["loss"], atol=1e-3)


def test_report(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result.with_name("reports")
    assert run("report", "--table", TABLE, result, "--output", folder) == 0
    names = [f"table_mine.{suffix}" for suffix in ("csv", "md", "tex", "html", "sha256")]
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in names]
    assert sorted(everything(folder)) == sorted(names)
    assert run("report", "--figure", TABLE.replace("table", "curve"), result, "--output", folder) == 0
    assert {"figure_mine.png", "figure_mine.pdf", "figure_mine.svg"} < set(everything(folder))


# --- one line for what is wrong --------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


def cut(path: Path, size: int) -> Path:
    return write(path.with_name(f"cut_{path.name}"), path.read_bytes()[:-size])


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


TRAIN = ("train", "--dataset", "digits", "--model", "small", "--method", "adv", "--recipe", RECIPE)
BAD_TRAINING = {
    "--dataset=digit": r".*config: datasets: no dataset 'digit'; have: .*; did you mean 'digits'\?",
    "--method=advv": r".*config: methods: no method 'advv'; have: .*; did you mean 'adv'\?",
    "--method=m={kind: standart}": r"methods\.m\.kind: no method kind 'standart'; .* 'standard'\?",
    "--method=m={kind: interp, wieght: 1}": r"methods\.m\.wieght: no option 'wieght'; .* 'weight'\?",
    "--method=m={kind": r"methods\.m: not YAML: .*expected ',' or '}', but got '<stream end>'.*",
    "--recipe=fast": r".*recipes: no recipe 'fast'; have: .*",
    "--recipe=r={batch: 5}": r"recipes\.r\.epochs: missing",
    "--recipe=" + RECIPE.replace("200", "1200"): r"recipe\.batch: 1200, but there are 1197 training images",
    "--recipe=" + RECIPE.replace("0.001", "1e-3"): r"recipes\.tiny\.rate\.0\.1: not a number; .*found '1e-3'",
    "--run=-1": r"--run -1: count networks from 0; .*",
    "--run=one": r"argument --run: invalid int value: 'one' .*",
    "--model=big": r"argument --model: invalid choice: 'big' .*",
    "--code=abc": r"--code abc: the code is now [0-9a-f]{12}; .*",
    "--config=nowhere.yaml": r"nowhere\.yaml: not a readable config \(No such file or directory\)",
}


@pytest.mark.parametrize(("argument", "message"), BAD_TRAINING.items())
def test_bad_trainings(argument: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(message, tmp_path, capsys, *TRAIN, argument)


def assert_refused(message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    """Exit code 2, one line, and nothing new or changed beside the output."""
    before = everything(tmp_path)
    capsys.readouterr()
    assert run(*arguments, "--output", tmp_path / "out.safetensors") == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert re.fullmatch(rf"irpipe {arguments[0]}: error: {message}\n", said.err), said.err
    assert everything(tmp_path) == before
    assert not (Path.cwd() / "ran").exists()


def test_bad_evaluations(
    checkpoint: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    none, foreign, short = tmp_path / "none", write(tmp_path / "foreign", b""), cut(checkpoint, 1)
    cases: list[tuple[Path, str, str]] = [
        (checkpoint, "pdg", r".*attacks: no attack 'pdg'; have: .*; did you mean 'pgd'\?"),
        (checkpoint, "a={kind: isaa}", r"attacks\.a\.kind: no attack kind 'isaa'; have: .*"),
        (checkpoint, "a={kind: pgd, step: 5}", r"attacks\.a\.step: no option 'step'; .*; did you mean 'steps'\?"),
        (checkpoint, "a={kind: pgd, eps: 1.5}", r"attacks\.a\.eps\.0: .* less than or equal to 1; found 1\.5"),
        (checkpoint, "a={kind: pgd, images: 401}", r"attack option images: 401, but the test set has 400"),
        (none, ATTACK, rf"{none}: no such file; expected an? irpipe checkpoint .*"),
        (foreign, ATTACK, rf"{foreign}: not a readable irpipe checkpoint .*"),
        (result, ATTACK, rf"{result}: not a readable irpipe checkpoint .*"),
        (short, ATTACK, rf"{short}: not a readable irpipe checkpoint .*"),
    ]
    for path, attack, message in cases:
        assert_refused(message, tmp_path, capsys, "evaluate", "--checkpoint", path, "--attack", attack)
    wrong = ("evaluate", "--checkpoint", checkpoint, "--attack", ATTACK, "--code", "0123456789ab")
    assert_refused(r"--code 0123456789ab: the code is now .*; start the workflow again", tmp_path, capsys, *wrong)


def test_another_shape_is_named(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = read_checkpoint(checkpoint)
    path = tmp_path / "pool.safetensors"
    write_checkpoint(path, Checkpoint(old.metadata | {"model": "pool"}, old.tensors))
    given = ("evaluate", "--checkpoint", path, "--attack", ATTACK)
    assert_refused(rf"{path}: head is \(10, 100\); model pool wants \(10, 64\)", tmp_path, capsys, *given)


def test_bad_data_and_imports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    label = write(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", bytes(10))
    given = ("data", "--dataset", "mnist", "--data", tmp_path)
    assert_refused(rf"{label}: found 10 bytes, expected 10008; remove it, .*", tmp_path, capsys, *given)
    assert_refused(r".*no dataset 'minst'; .*'mnist'\?", tmp_path, capsys, "data", "--dataset", "minst")
    given = ("data", "--dataset", "d={kind: digits, size: 3}")
    assert_refused(r"datasets\.d\.size: no option 'size'; have: none", tmp_path, capsys, *given)
    pickles = {
        write(tmp_path / "evil.pkl", pickle.dumps([(Evil(),)])): r"asks for posix\.system; .* so it was not run",
        write(tmp_path / "cut.pkl", pickle.dumps([1, 2, 3])[:-2]): r"not a readable network .*",
        tmp_path / "none.pkl": r"no such file; expected a released network \(\.pkl\)",
    }
    for path, message in pickles.items():
        given = ("import", path, "--dataset", "mnist", "--model", "small", "--method", "int")
        assert_refused(rf"{path}: {message}", tmp_path, capsys, *given)


def test_bad_reports(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = cut(result, 100)
    cases: list[tuple[str, list[object]]] = [
        (r".*tables: no table 'tabel'; have: .*", ["--table=tabel", result]),
        (r"figures\.f\.kind: no report kind 'cruve'; .*'curve'\?", ["--figure=f={kind: cruve}", result]),
        (r"tables\.t\.title: missing", ["--table=t={kind: table}", result]),
        (rf"{other}: cut short or damaged, .*", [f"--table={TABLE}", result, other]),
        (rf"{tmp_path / 'none.h5'}: no such file; .*", [f"--table={TABLE}", tmp_path / "none.h5"]),
        (r"table_t: wants results of attack 'pgd'; found mine", ["--table=t={kind: table, title: T}", result]),
        (r"table_mine: two results of digits/small/int/seed7/mine; .*", [f"--table={TABLE}", result, result]),
        (r"argument --figure: not allowed with argument --table .*", ["--table=t", "--figure=f", result]),
        (r"one of the arguments --table --figure is required .*", [result]),
    ]
    for message, given in cases:
        assert_refused(message, tmp_path, capsys, "report", *given)


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["check", "--frob"], ["evaluate"]])
def test_bad_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("irpipe")
    assert "--help" in said.err


@pytest.mark.parametrize(
    "code",
    [
        "import irpipe.cli, irpipe.config, irpipe.codehash, irpipe.commands",
        "import irpipe.cli; assert irpipe.cli.main(['check']) == 0",
        "import irpipe.cli, contextlib\nwith contextlib.suppress(SystemExit): irpipe.cli.main(['report', '--help'])",
    ],
)
def test_checking_and_help_start_without_torch(code: str) -> None:
    loaded = "import sys; print([name for name in ('torch', 'h5py', 'sklearn', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{loaded}"], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
