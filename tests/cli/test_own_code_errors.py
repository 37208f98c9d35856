"""An error with files beside the config in use ends in a line that names them.

One that no such file raised keeps its traceback.
"""

import re
from pathlib import Path
from typing import NoReturn

import pytest
from command_line import run

from irpipe.cli import check_config, main
from irpipe.errors import StoppedError
from irpipe.outside_code import used_files

RECIPE = (
    "r={batch_size: 600, epochs: 1, lr: [[0, 0.1]], eps_schedule: [[0, 0]], "
    "inner_steps: 1, inner_step_size: 0.1}"
)
OBJECTIVE = "def objective(network, images, labels): "
LOAD = "def load(root, split, download=False): "
FACTS = "from irpipe.datasets.digits import *\n"
BUILD = "def build(shape, classes): "
# A module that stops a method when it is called, without a frame of the method's own file.
HELPER = """
import functools

def stops(function):
    @functools.wraps(function)
    def stopped(*args, **options):
        raise SystemExit(0)
    return stopped
"""


def train(option: str, code: str) -> int:
    """The exit code of `irpipe train` with this code as the method, data set or model."""
    Path("mine.py").write_text(code, encoding="utf-8")
    options = {
        "--dataset": "digits",
        "--model": "small",
        "--method": "m={kind: cross_entropy, adversarial: false}",
    }
    options[option] = "./mine.py" if option == "--model" else "m={kind: ./mine.py}"
    arguments = [text for pair in options.items() for text in pair]
    return run("train", *arguments, "--recipe", RECIPE, "--output", "net.safetensors")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("option", "code", "message", "is_theirs"),
    [
        ("--method", f"{OBJECTIVE}raise KeyError('a')", "KeyError: 'a'", True),
        ("--method", f"{OBJECTIVE}return 3 / 0", "ZeroDivisionError: division by zero", True),
        ("--dataset", f"{FACTS}{LOAD}return 3 / 0", "ZeroDivisionError: division by zero", True),
        ("--model", f"{BUILD}raise SystemExit", "SystemExit", True),
        ("--model", "N = 3", "AttributeError: .* has no attribute 'build'", False),
    ],
)
def test_it_ends_in_a_line_that_names_the_files(
    option: str, code: str, message: str, is_theirs: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(option, code) == 2
    *traceback, line = capsys.readouterr().err.splitlines()
    hint = "; --debug prints the traceback" if is_theirs else ""
    expected = rf"irpipe train: error: {message}.*, with the code of mine\.py{hint}"
    assert re.fullmatch(expected, line), line
    assert traceback[:1] == ([] if is_theirs else ["Traceback (most recent call last):"])
    assert not Path("net.safetensors").exists()


def test_exit_in_a_module_that_a_file_imports_is_no_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("stopping_helper.py").write_text(HELPER, encoding="utf-8")
    method = f"from stopping_helper import stops\n@stops\n{OBJECTIVE}pass\n"
    assert train("--method", method) == 2
    expected = "SystemExit: 0, with the code of mine.py; --debug prints the traceback"
    assert capsys.readouterr().err == f"irpipe train: error: {expected}\n"


@pytest.mark.parametrize("error", [KeyError("a"), SystemExit(143)])
def test_without_such_files_it_stays_what_it_is(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> NoReturn:
        raise error

    monkeypatch.setattr(check_config, "run", fail)
    with pytest.raises(type(error)):
        main(["check", "--config", "none.yaml"])


def test_a_training_that_a_signal_stops_is_no_fault_of_such_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(args: object) -> NoReturn:
        used_files.add(Path("mine.py"))
        raise StoppedError(143)

    monkeypatch.setattr(check_config, "run", stop)
    with pytest.raises(StoppedError, match="143"):
        main(["check", "--config", "none.yaml"])
