"""An error with files beside the config in use is one line; any other keeps its traceback."""

import re
from pathlib import Path
from typing import NoReturn

import pytest
from command_line import run

from irpipe.cli import check_config, main

RECIPE = (
    "r={batch_size: 600, epochs: 1, lr: [[0, 0.1]], eps_schedule: [[0, 0]], "
    "inner_steps: 1, inner_step_size: 0.1}"
)
OBJECTIVE = "def objective(network, images, labels): "
LOAD = "def load(root, split, download=False): "
BUILD = "def build(shape, classes): "


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("option", "code", "message"),
    [
        ("--method", f"{OBJECTIVE}raise KeyError('a')", "KeyError: 'a'"),
        ("--method", f"{OBJECTIVE}return 3", "AttributeError: 'int' object has no attribute"),
        ("--dataset", f"{LOAD}return None", "AttributeError: module .* has no attribute 'SHAPE'"),
        ("--model", f"{BUILD}raise SystemExit", "SystemExit"),
        ("--model", "N = 3", "AttributeError: module .* has no attribute 'build'"),
    ],
)
def test_it_is_one_line_that_names_the_files(
    option: str, code: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text(code, encoding="utf-8")
    options = {
        "--dataset": "digits",
        "--model": "small",
        "--method": "m={kind: cross_entropy, adversarial: false}",
    }
    options[option] = "./mine.py" if option == "--model" else "m={kind: ./mine.py}"
    arguments = [text for pair in options.items() for text in pair]
    assert run("train", *arguments, "--recipe", RECIPE, "--output", "net.safetensors") == 2
    printed = capsys.readouterr().err
    hint = r"with the code of mine\.py; --debug prints the traceback"
    expected = rf"irpipe train: error: {message}[^\n]*, {hint}\n"
    assert re.fullmatch(expected, printed), printed
    assert not Path("net.safetensors").exists()


@pytest.mark.parametrize("error", [KeyError("a"), SystemExit(143)])
def test_without_such_files_it_stays_what_it_is(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> NoReturn:
        raise error

    monkeypatch.setattr(check_config, "run", fail)
    with pytest.raises(type(error)):
        main(["check", "--config", "none.yaml"])
