"""`irpipe stress` when a network, pyautoattack or the command is wrong: one line, no loss."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import METADATA, run, write_fitted_network
from pyautoattack.autopgd_base import APGDAttack

from irpipe.cli._failures import explained, has_code_of_others
from irpipe.errors import IrpipeError
from irpipe.outside_code import code_lies_beside
from irpipe.results.result import read_result

# `late` fails at ten images, after the probe has tried three; `nan` has a gradient of NaN.
NETWORKS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, after=lambda images, logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.after = after
    def forward(self, images):
        return self.after(images, self.body(images))

def fail_late(images, logits):
    if len(images) > 3:
        raise LookupError("no room for so many\\nimages")
    return logits

def nan_gradient(images, logits):
    return logits + (images - images).abs().sqrt().sum((1, 2, 3))[:, None]

sound = Net
late = lambda: Net(fail_late)
nan = lambda: Net(nan_gradient)
double = lambda: Net(lambda images, logits: logits.double())
half = lambda: Net(lambda images, logits: logits.half())
broken = lambda: 1 / 0

def coarse():
    # All logits are 0.
    net = nn.Sequential(
        nn.Conv2d(1, 4, 14, 14), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return net
"""
# It fails at ten images.
ARCHITECTURE = """
from irpipe.networks.architectures import small

def build(shape, classes):
    network = small(shape[0], classes)
    network.backbone[0].register_forward_pre_hook(stop_late)
    return network

def stop_late(layer, inputs):
    if len(inputs[0]) > 3:
        raise SystemExit(0)
"""
PGD = "pgd={kind: pgd, steps: 2, eps: [0, 0.2], images: 10}"
STRONG = "strong={kind: margin_pgd, steps: [1, 2], eps: [0, 0.2], images: 10}"


def stress(folder: Path, function: str, *attacks: str) -> int:
    """The exit code of `irpipe stress` with the attacks on a function of NETWORKS."""
    (folder / "strange_networks.py").write_text(NETWORKS, encoding="utf-8")
    sys.modules.pop("strange_networks", None)
    network = ("--checkpoint", f"strange_networks:{function}", "--dataset", "digits")
    options = ("--device", "cpu", "--output", folder / "o")
    return run("stress", *network, *options, "--attacks", *attacks)


def without_progress(text: str) -> str:
    """The lines of standard error that are no progress."""
    return "".join(line for line in text.splitlines(keepends=True) if "s left" not in line)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_error_of_the_network_is_one_line_that_names_network_and_attack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = "one={kind: pgd, steps: 2, eps: 0.2, images: 3}"
    assert stress(tmp_path, "late", PGD, one, STRONG) == 2
    printed = capsys.readouterr()
    assert without_progress(printed.err) == (
        "irpipe stress: error: "
        "pgd on strange_networks:late: LookupError: no room for so many; "
        "strong on strange_networks:late: LookupError: no room for so many "
        "(--debug prints the traceback)\n"
    )
    # The attack between them has run.
    assert [path.name for path in (tmp_path / "o").glob("*.h5")] == ["one.h5"]
    assert "pgd: failed" in printed.out
    assert "strong: failed" in printed.out


def test_debug_prints_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stress(tmp_path, "late", PGD, "--debug") == 2
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed
    assert "in fail_late" in printed
    assert printed.splitlines()[-1].startswith("irpipe stress: error: pgd on strange_networks")
    assert stress(tmp_path, "broken", PGD, "--debug") == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_function_that_fails_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(tmp_path, "broken", PGD) == 2
    reason = "the function fails (ZeroDivisionError: division by zero)"
    expected = f"irpipe stress: error: strange_networks:broken: {reason}\n"
    assert capsys.readouterr().err == expected


def test_a_gradient_of_nan_is_said_and_no_masking_is_suspected_at_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(tmp_path, "nan", STRONG) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("strange_networks:nan: its gradient is NaN on every image tried")
    assert "nothing to lose, since the accuracy is at chance" in printed
    assert "masking suspected" not in printed


def test_attacks_that_do_not_apply_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Maps of 2 x 2 have no 8 largest entries, and equal logits win nothing for Square."""
    topk = "topk={kind: aai, steps: 1, hinge_weight: 1, images: 10}"
    options = "attacks_to_run: square, n_queries: 5, eps: 0.2, images: 10"
    square = f"square={{kind: autoattack, {options}}}"
    assert stress(tmp_path, "coarse", topk, square) == 0
    printed = capsys.readouterr().out
    assert "topk: left out, because attack option top_k: 8, but" in printed
    assert re.search(r"^time: at most \S+ s \(square \S+ s\)$", printed, re.MULTILINE)
    accuracy = read_result(tmp_path / "o" / "square.h5").arrays["correct"].mean()
    labels = read_result(tmp_path / "o" / "square.h5").arrays["label"]
    assert accuracy == (labels == 0).mean()


@pytest.mark.parametrize("function", ["double", "half"])
def test_logits_of_other_dtypes_give_the_same_accuracy(function: str, tmp_path: Path) -> None:
    assert stress(tmp_path, "sound", PGD, STRONG) == 0
    expected = read_result(tmp_path / "o" / "pgd.h5").arrays["correct"]
    assert stress(tmp_path, function, PGD, STRONG) == 0
    correct = read_result(tmp_path / "o" / "pgd.h5").arrays["correct"]
    assert (correct == expected).all()


def test_a_name_that_is_given_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stress(tmp_path, "sound", PGD, PGD.replace("0.2", "0.1")) == 2
    assert "two attacks are called pgd" in capsys.readouterr().err
    assert not list(tmp_path.glob("o/*"))


def test_pyautoattack_is_asked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    square = "square={kind: autoattack, attacks_to_run: square, images: 2}"
    assert stress(tmp_path, "sound", PGD, square) == 2
    message = "attack kind autoattack: pyautoattack is missing; pip install 'irpipe[stress]'"
    assert capsys.readouterr() == ("", f"irpipe stress: error: {message}\n")
    assert not list(tmp_path.glob("o/*"))


def test_an_error_within_pyautoattack_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without it, APGD does not know how many axes an image has.
    monkeypatch.setattr(APGDAttack, "init_hyperparam", lambda self, images: None)
    apgd = "apgd={kind: autoattack, attacks_to_run: apgd-ce, steps: 1, images: 4, eps: 0.2}"
    assert stress(tmp_path, "sound", apgd, PGD) == 2
    printed = capsys.readouterr()
    assert without_progress(printed.err).count("\n") == 1
    assert "apgd on strange_networks:sound: " in printed.err
    assert "o/pgd.h5" in printed.out


def fail_in(file: str) -> None:
    """Divide by zero in a file of this name."""
    exec(compile("1 / 0", file, "exec"))


@pytest.mark.parametrize(
    ("file", "is_external", "is_told"),
    [
        ("/site-packages/pyautoattack/fab_base.py", False, True),
        ("/irpipe/attacks/_pyautoattack.py", False, False),
        ("/irpipe/attacks/_pyautoattack.py", True, True),
    ],
)
def test_only_an_error_of_irpipe_keeps_its_traceback(
    file: str, is_external: bool, is_told: bool
) -> None:
    with (
        code_lies_beside(None),  # Tests before this one may have used files.
        pytest.raises(IrpipeError if is_told else ZeroDivisionError) as error,
        explained("fab", "net", is_external=is_external),
    ):
        fail_in(file)
    reason = "division by zero"
    told = f"fab on net: ZeroDivisionError: {reason}; --debug prints the traceback"
    assert str(error.value) == (told if is_told else reason)


@pytest.mark.parametrize(
    ("changed", "attack", "is_of_others"),
    [
        ({}, "pgd", False),
        ({"run": "external"}, "pgd", True),
        ({"model": "./net.py"}, "pgd", True),
        ({"data": {"kind": "./data.py"}}, "pgd", True),
        ({}, "./mine.py", True),
    ],
)
def test_code_of_others_is_recognised(
    changed: dict[str, Any], attack: str, is_of_others: bool
) -> None:
    assert has_code_of_others(METADATA | changed, attack) == is_of_others


def test_an_own_architecture_that_fails_ends_its_attack_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does exit() in the timed passes end the command."""
    Path("net.py").write_text(ARCHITECTURE, encoding="utf-8")
    network = ("--checkpoint", write_fitted_network(Path("net.safetensors"), model="./net.py"))
    one = "one={kind: pgd, steps: 2, eps: 0.2, images: 3}"
    options = ("--device", "cpu", "--output", "o")
    assert run("stress", *network, *options, "--attacks", PGD, one) == 2
    printed = capsys.readouterr()
    reason = "net.safetensors: SystemExit: 0, with the code of net.py"
    assert without_progress(printed.err) == (
        f"irpipe stress: error: pgd on {reason}; maps on {reason} (--debug prints the traceback)\n"
    )
    assert "time: no estimate (SystemExit)" in printed.out
    assert Path("o/one.h5").exists()
