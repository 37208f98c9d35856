"""`irpipe stress` after Ctrl-C or SIGKILL: the same page, and no finished attack twice."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run, write_fitted_network
from torch import Tensor
from warm_python import programs

from irpipe import evaluation
from irpipe.attacks import _certified
from irpipe.certification.root_bounds import certify_by_bounds
from irpipe.cli._stress_attacks import StressAttacks
from irpipe.networks.network import Network
from irpipe.results.result import Result, read_result

OPTIONS = "steps: [1, 3], images: 20, eps: [0, 0.2]"
NAMES = ["a", "b", "c"]
ATTACKS = [
    f"{name}={{kind: pgd, {OPTIONS}, step_size: 0.0{i + 1}}}" for i, name in enumerate(NAMES)
]
# A process that kills itself when a function of irpipe is called for the n-th time.
KILL = """
import importlib, os, signal, sys
from irpipe import cli
module, function, n, *arguments = sys.argv[1:]
module = importlib.import_module(module)
original = getattr(module, function)
calls = []
def killing(*args):
    value = original(*args)
    calls.append(1)
    if len(calls) == int(n):
        os.kill(os.getpid(), signal.SIGKILL)
    return value
setattr(module, function, killing)
cli.main(arguments)
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the attacks that are carried out in this process."""
    names: list[str] = []
    original = evaluation.evaluate_network

    def counted(network: Any, name: str, *args: Any, **keywords: Any) -> Result:
        names.append(name)
        return original(network, name, *args, **keywords)

    monkeypatch.setattr(evaluation, "evaluate_network", counted)
    return names


def arguments(folder: Path, output: str) -> list[str]:
    network = ["--checkpoint", str(folder / "net.safetensors"), "--device", "cpu"]
    return ["stress", *network, "--output", str(folder / output), "--attacks", *ATTACKS]


def page_without_times(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    page, n_times = re.subn(r'(data-heading="time">)[\d.]+ s', r"\1", text)
    assert n_times == 4
    return page


def test_a_killed_stress_test_goes_on(tmp_path: Path, calls: list[str]) -> None:
    """SIGKILL after the first attack, then within the third one: each runs to its end once."""
    write_fitted_network(tmp_path / "net.safetensors")
    assert run(*arguments(tmp_path, "whole")) == 0
    assert calls == [*NAMES, "maps"]
    calls.clear()
    kills = [
        ("irpipe.cli._stress_attacks", "write_result", 1, ["a"]),
        ("irpipe.evaluation", "score_images", 3, ["a", "b"]),  # b has two outputs
    ]
    times: dict[str, int] = {}
    for module, function, n, finished in kills:
        command = [programs() / "python", "-c", KILL, module, function, str(n)]
        process = subprocess.run(
            [*command, *arguments(tmp_path, "killed")], check=False, capture_output=True
        )
        assert process.returncode == -signal.SIGKILL
        paths = sorted((tmp_path / "killed").glob("*.h5"))
        assert [path.stem for path in paths] == finished
        for path in paths:
            assert times.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    assert run(*arguments(tmp_path, "killed")) == 0
    assert calls == ["c", "maps"]
    pages = [page_without_times(tmp_path / name / "report.html") for name in ("whole", "killed")]
    assert pages[0] == pages[1]


def test_ctrl_c_keeps_what_is_finished(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fitted_network(tmp_path / "net.safetensors")
    counted = evaluation.evaluate_network

    def interrupted(network: Any, name: str, *args: Any, **keywords: Any) -> Result:
        if name == "b":
            raise KeyboardInterrupt
        return counted(network, name, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_network", interrupted)
        assert run(*arguments(tmp_path, "o")) == 130
    assert not (tmp_path / "o" / "report.html").exists()
    assert run(*arguments(tmp_path, "o")) == 0
    assert calls == ["a", "b", "c", "maps"]


def test_ctrl_c_keeps_what_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the proofs of 3 of 5 images. A damaged file of proofs counts for nothing."""
    write_fitted_network(tmp_path / "net.safetensors")
    attack = "a={kind: margin_pgd, steps: 1, images: 5, eps: 0.002}"
    command = [*arguments(tmp_path, "o")[: -len(ATTACKS)], attack]
    bounded: list[int] = []

    def spy(network: Network, images: Tensor, labels: Tensor, eps: float) -> Iterator[Any]:
        bounded.append(len(images))
        for number, proof in enumerate(certify_by_bounds(network, images, labels, eps)):
            if bounded == [5] and number == 3:
                raise KeyboardInterrupt
            yield proof

    monkeypatch.setattr(_certified, "certify_by_bounds", spy)
    assert run(*command) == 130
    assert run(*command) == 0
    assert bounded == [5, 2]
    result = tmp_path / "o" / "a.h5"
    assert read_result(result).arrays["is_certified"].sum() == 4
    result.unlink()
    proofs = tmp_path / "o" / "proofs.json"
    proofs.write_text(proofs.read_text().replace("false", "true"))
    assert run(*command) == 0
    assert bounded == [5, 2, 5]
    assert read_result(result).arrays["is_certified"].sum() == 4


def test_the_file_of_an_architecture_counts_for_results_and_proofs(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command finds the same weights, and a file that has one line more."""
    write_fitted_network(tmp_path / "net.safetensors", model="./net.py")
    attack = "a={kind: margin_pgd, steps: 1, images: 5, eps: 0.002}"
    command = [*arguments(tmp_path, "o")[: -len(ATTACKS)], attack]
    bounded: list[int] = []

    def spy(network: Network, images: Tensor, labels: Tensor, eps: float) -> Iterator[Any]:
        bounded.append(len(images))
        return certify_by_bounds(network, images, labels, eps)

    monkeypatch.setattr(_certified, "certify_by_bounds", spy)
    code = "from irpipe.networks.architectures import small\n"
    code += "def build(shape, classes): return small(shape[0], classes)\n"
    for folder, text in {"first": code, "second": f"{code}N = 1\n"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(text, encoding="utf-8")
        monkeypatch.setenv("IRPIPE_CODE", str(tmp_path / folder))
        assert run(*command) == 0
    assert calls == ["a", "maps", "a", "maps"]
    assert bounded == [5, 5]


def test_an_interrupted_repetition_forgets_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fitted_network(tmp_path / "net.safetensors")
    assert run(*arguments(tmp_path, "o")) == 0
    before = (tmp_path / "o" / "report.html").read_bytes()

    original = StressAttacks._finished

    def interrupted(stress: StressAttacks, name: str, options: dict[str, Any]) -> Result | None:
        if name == "b":
            raise KeyboardInterrupt
        return original(stress, name, options)

    with monkeypatch.context() as patch:
        patch.setattr(StressAttacks, "_finished", interrupted)
        patch.setattr(StressAttacks, "print_estimate", lambda *_: None)
        assert run(*arguments(tmp_path, "o")) == 130
    assert run(*arguments(tmp_path, "o")) == 0
    assert (tmp_path / "o" / "report.html").read_bytes() == before


def test_whatever_decides_a_result_makes_its_attack_run_again(
    tmp_path: Path, calls: list[str]
) -> None:
    """Another network, other options, a damaged file; and nothing else."""
    write_fitted_network(tmp_path / "net.safetensors")
    command = arguments(tmp_path, "o")
    assert run(*command) == 0
    calls.clear()
    assert run(*command) == 0
    assert calls == []
    path = tmp_path / "o" / "b.h5"
    path.write_bytes(path.read_bytes()[:-1])
    command[-1] = command[-1].replace("0.03", "0.04")
    assert run(*command) == 0
    assert calls == ["b", "c"]
    assert read_result(tmp_path / "o" / "c.h5").attrs["options"]["step_size"] == 0.04
    calls.clear()
    write_fitted_network(tmp_path / "net.safetensors", seed=2)
    assert run(*command) == 0
    assert calls == ["a", "b", "c", "maps"]
