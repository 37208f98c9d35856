"""Bad input of every command: one line, exit code 2, and nothing is written."""

import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import ATTACK, RECIPE, TABLE, contents, run

from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

TRAIN = ("train", "--dataset", "digits", "--model", "small", "--method", "adv", "--recipe", RECIPE)


SUFFIXES = {"evaluate": ".h5", "data": ".json", "page": ".html"}  # of outputs


def assert_refused(
    message: str, folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object
) -> None:
    """A command prints one line, with exit code 2, and changes nothing in the folder."""
    before = contents(folder)
    capsys.readouterr()
    suffix = SUFFIXES.get(str(arguments[0]), ".safetensors")
    assert run(*arguments, "--output", folder / f"out{suffix}") == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    pattern = rf"irpipe {arguments[0]}: error: {message}\n"
    assert re.fullmatch(pattern, printed.err), printed.err
    assert contents(folder) == before
    assert not (Path.cwd() / "ran").exists()


class TouchesAFile:
    """Unpickled without care, it makes the file `ran` in the working folder."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran",)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def cut(path: Path, n_bytes: int) -> Path:
    """A copy of a file without its last bytes."""
    return write(path.with_name(f"cut_{path.name}"), path.read_bytes()[:-n_bytes])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--dataset=digit", r".*config: datasets: no dataset 'digit'; .*; did you mean 'digits'\?"),
        ("--method=advv", r".*config: methods: no method 'advv'; .*; did you mean 'adv'\?"),
        (
            "--method=m={kind: cross_entrpy}",
            r"methods\.m\.kind: no method kind 'cross_entrpy'; .* 'cross_entropy'\?",
        ),
        (
            "--method=m={kind: interpretability_aware, reg_wieght: 1}",
            r"methods\.m\.reg_wieght: no option 'reg_wieght'; .* 'reg_weight'\?",
        ),
        (
            "--method=m={kind",
            r"methods\.m: not YAML: .*expected ',' or '}', but got '<stream end>'.*",
        ),
        ("--recipe=fast", r".*recipes: no recipe 'fast'; have: .*"),
        ("--recipe=r={batch_size: 5}", r"recipes\.r\.epochs: missing"),
        (
            "--recipe=" + RECIPE.replace("200", "1200"),
            r"recipe\.batch_size: 1200, but there are 1197 training images",
        ),
        (
            "--recipe=" + RECIPE.replace("0.001", "1e-3"),
            r"recipes\.tiny\.lr\.0\.1: not a number; .*found '1e-3'",
        ),
        ("--run=-1", r"--run -1: count networks from 0; .*"),
        ("--log=log.txt", r"--log log\.txt: training logs are written as NAME\.csv"),
        ("--run=one", r"argument --run: invalid int value: 'one' .*"),
        ("--model=big", r"argument --model: neither small, pool, wresnet nor .* 'big' .*"),
        ("--code=abc", r"--code abc: the code is now [0-9a-f]{12}; .*"),
        (
            "--config=nowhere.yaml",
            r"nowhere\.yaml: not a readable config \(No such file or directory\)",
        ),
    ],
)
def test_bad_trainings(
    argument: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(message, tmp_path, capsys, *TRAIN, argument)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("pdg", r".*attacks: no attack 'pdg'; have: .*; did you mean 'pgd'\?"),
        ("a={kind: isaa}", r"attacks\.a\.kind: no attack kind 'isaa'; have: .*"),
        (
            "a={kind: pgd, step: 5}",
            r"attacks\.a\.step: no option 'step'; .*; did you mean 'steps'\?",
        ),
        (
            "a={kind: pgd, eps: 1.5}",
            r"attacks\.a\.eps\.0: .* less than or equal to 1; found 1\.5",
        ),
        (
            "a={kind: pgd, images: 401}",
            r"attack option images: 401, but the test set has 400",
        ),
    ],
)
def test_bad_attacks(
    attack: str,
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("evaluate", "--checkpoint", checkpoint, "--attack", attack)
    assert_refused(message, tmp_path, capsys, *arguments)


def test_bad_checkpoints(
    checkpoint: Path, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none"
    messages = {
        missing: r"no such file; expected an? irpipe checkpoint .*",
        write(tmp_path / "empty", b""): r"not a readable irpipe checkpoint .*",
        result: r"not a readable irpipe checkpoint .*",
        cut(checkpoint, 1): r"not a readable irpipe checkpoint .*",
    }
    for path, message in messages.items():
        arguments = ("evaluate", "--checkpoint", path, "--attack", ATTACK)
        assert_refused(rf"{re.escape(str(path))}: {message}", tmp_path, capsys, *arguments)


def test_no_file_of_another_kind_is_replaced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "c.yaml", b"{}")
    commands = {
        "results are written as NAME.h5": (
            "evaluate",
            "--checkpoint",
            checkpoint,
            "--attack",
            ATTACK,
        ),
        "records are written as NAME.json": ("data", "--dataset", "digits"),
        "pages are written as NAME.html": ("page", "--config", config),
    }
    before = checkpoint.read_bytes()
    for message, command in commands.items():
        assert run(*command, "--output", checkpoint) == 2
        error = f"irpipe {command[0]}: error: --output {checkpoint}: {message}\n"
        assert capsys.readouterr().err == error
        assert checkpoint.read_bytes() == before


def test_another_code_hash_is_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--checkpoint", checkpoint, "--attack", ATTACK, "--code", "0123456789ab")
    message = r"--code 0123456789ab: the code is now .*; start the workflow again"
    assert_refused(message, tmp_path, capsys, "evaluate", *arguments)


def test_another_shape_is_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = read_checkpoint(checkpoint)
    path = tmp_path / "pool.safetensors"
    write_checkpoint(path, Checkpoint(small.metadata | {"model": "pool"}, small.tensors))
    arguments = ("evaluate", "--checkpoint", path, "--attack", ATTACK)
    message = rf"{re.escape(str(path))}: backbone\.0\.bias is \(16,\); model pool wants \(32,\)"
    assert_refused(message, tmp_path, capsys, *arguments)


def test_bad_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", bytes(10))
    messages = {
        "mnist": rf"{re.escape(str(labels))}: found 10 bytes, expected 10008; remove it, .*",
        "minst": r".*no dataset 'minst'; .*'mnist'\?",
        "d={kind: digits, size: 3}": r"datasets\.d\.size: no option 'size'; have: train_eps",
    }
    for name, message in messages.items():
        arguments = ("data", "--dataset", name, "--data", tmp_path)
        assert_refused(message, tmp_path, capsys, *arguments)


def test_bad_imports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = write(tmp_path / "hostile.pkl", pickle.dumps([(TouchesAFile(),)]))
    messages = {
        hostile: r"asks for posix\.system; .* so it was not run",
        write(tmp_path / "cut.pkl", pickle.dumps([1, 2, 3])[:-2]): r"not a readable network .*",
        tmp_path / "none.pkl": r"no such file; expected a released network \(\.pkl\)",
    }
    for path, message in messages.items():
        arguments = ("import", path, "--dataset", "mnist", "--model", "small", "--method", "int")
        assert_refused(rf"{re.escape(str(path))}: {message}", tmp_path, capsys, *arguments)


def test_bad_networks_from_elsewhere(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    lines = ["from torch import nn", "def flat():"]
    lines.append("    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))")
    write(tmp_path / "nets.py", "\n".join(lines).encode())
    aai = "--attack=a={kind: aai, steps: 2, images: 2, eps: 0.1}"
    cases: dict[str, list[object]] = {
        r"a on \./nets\.py:flat: it attacks maps and this network has none: it does not .*": [
            *("./nets.py:flat", "--dataset", "digits", "--external", "mine/adv")
        ],
        r"--external mine: expected MODEL/METHOD, such as mine/adv": [
            *("./nets.py:flat", "--dataset", "digits", "--external", "mine")
        ],
        r"--dataset: .*\.safetensors says itself what its images are; leave it out": [
            *(checkpoint, "--dataset", "mnist")
        ],
    }
    for message, arguments in cases.items():
        assert_refused(message, tmp_path, capsys, "evaluate", aai, "--checkpoint", *arguments)


def test_bad_reports(result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = cut(result, 100)
    missing = tmp_path / "none.h5"
    frame = write(tmp_path / "results.csv", b"dataset,accuracy\ndigits,0.5\n")
    cases: list[tuple[str, list[object]]] = [
        (r".*tables: no table 'tabel'; have: .*", ["--table=tabel", result]),
        (
            r"figures\.f\.kind: no report kind 'accuracy_cruve'; .*'accuracy_curve'\?",
            ["--figure=f={kind: accuracy_cruve}", result],
        ),
        (r"tables\.t\.title: missing", ["--table=t={kind: accuracy_table}", result]),
        (
            rf"{re.escape(str(damaged))}: cut short or damaged, .*",
            [f"--table={TABLE}", result, damaged],
        ),
        (rf"{re.escape(str(missing))}: no such file; .*", [f"--table={TABLE}", missing]),
        (r"\S+/none: no such file; .*", [f"--table={TABLE}", missing.with_suffix("")]),
        (
            rf"{re.escape(str(frame))}: not a readable .* \(no column content_sha256\); .*",
            [f"--table={TABLE}", frame],
        ),
        (
            r"table_t: expected results of attack 'pgd'; found mine",
            ["--table=t={kind: accuracy_table, title: T}", result],
        ),
        (
            r"table_mine: two results of digits/small/int/seed7/mine; .*",
            [f"--table={TABLE}", result, result],
        ),
        (
            r"argument --figure: not allowed with argument --table .*",
            ["--table=t", "--figure=f", result],
        ),
        (r"one of the arguments --table --figure is required .*", [result]),
    ]
    for message, arguments in cases:
        assert_refused(message, tmp_path, capsys, "report", *arguments)


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["check", "--frob"], ["evaluate"]])
def test_bad_usage_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("irpipe")
    assert "--help" in printed.err
