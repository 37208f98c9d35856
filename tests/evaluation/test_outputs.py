"""What an attack of anybody may yield, and that it cannot change the images it is judged by."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import run, write_fitted_network
from made_batches import make_digit_batch

from irpipe.attacks import AttackBatch, AttackOutput
from irpipe.config.kinds import resolve_entry
from irpipe.datasets import load
from irpipe.evaluation import evaluate_network
from irpipe.evaluation.outputs import join_batches, outputs_of
from irpipe.networks.load import load_for_attack

ATTACK = """
from irpipe.attacks import AttackOutput
from irpipe.option_types import EpsList
PROTOCOL = ()
def attack(batch, *, eps: EpsList):
    {body}
    yield AttackOutput(1, batch.images[None])
"""


def outputs(attack: Callable[[AttackBatch], Any]) -> list[AttackOutput]:
    kind = SimpleNamespace(attack=attack)
    return list(outputs_of(kind, make_digit_batch(2), {}, is_outside=True))


def output_with(**changes: Any) -> Callable[[AttackBatch], Any]:
    """An attack that yields the clean images, with these fields changed."""
    return lambda batch: [AttackOutput(1, batch.images[None])._replace(**changes)]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda batch: [], "the attack yielded nothing"),
        (lambda batch: None, "the attack returned NoneType; it must yield each AttackOutput"),
        (lambda batch: batch.images, "the attack returned Tensor; it must yield"),
        (lambda batch: AttackOutput(1, batch.images), "the attack returned AttackOutput; it must"),
        (lambda batch: [batch.images], "the attack yielded a Tensor, not an AttackOutput"),
        (output_with(images=np.ones(2)), "the attack yielded a ndarray, not an AttackOutput with"),
        (output_with(axis_value="a"), "the attack's axis_value is 'a', not a whole number"),
        (output_with(extras={"x": torch.ones(2)}), r"the attack's extra 'x' is no Tensor \[E, N"),
        (output_with(extras={"x": 3}), "extra 'x' is no Tensor"),
        (
            lambda batch: [
                *output_with(extras={"x": torch.ones(1, 2)})(batch),
                *output_with(extras={"y": torch.ones(1, 2)})(batch),
            ],
            r"the attack yielded the extras \['y'\] after \['x'\]",
        ),
    ],
)
def test_what_is_no_output_is_named(attack: Callable[[AttackBatch], Any], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        outputs(attack)


def test_gradients_end_here() -> None:
    def attack(batch: AttackBatch) -> Any:
        images = batch.images[None].clone().requires_grad_()
        return [AttackOutput(1, images * 1, extras={"x": images.sum(dim=(2, 3, 4))})]

    (output,) = outputs(attack)
    assert not output.images.requires_grad
    assert not output.extras["x"].requires_grad


def test_an_attack_changes_copies() -> None:
    batch = make_digit_batch(2)
    images, labels = batch.images.clone(), batch.labels.clone()

    def attack(given: AttackBatch) -> Any:
        given.images.zero_()
        given.labels.add_(1)
        return [AttackOutput(1, given.images[None])]

    (output,) = outputs_of(SimpleNamespace(attack=attack), batch, {}, is_outside=False)
    assert not output.images.any()
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)


def test_what_an_attack_changes_later_does_not_count() -> None:
    def attack(batch: AttackBatch) -> Any:
        images, flags = batch.images[None], torch.zeros(1, 2)
        yield AttackOutput(1, images, extras={"x": flags})
        images.zero_()
        flags.add_(1)

    (output,) = outputs(attack)
    assert torch.equal(output.images[0], make_digit_batch(2).images)
    assert not output.extras["x"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": np.array([2])}, r"yielded steps \[2\] of one batch of images and \[1\] of the"),
        ({"x": np.zeros(1)}, r"arrays \['a', 'steps', 'x'\] of one .* \['a', 'steps'\]"),
    ],
)
def test_all_batches_have_the_same_arrays(change: dict[str, np.ndarray], message: str) -> None:
    batch = {"a": np.zeros((3, 1, 1)), "steps": np.array([1])}
    assert join_batches([batch, batch], "steps")["a"].shape == (6, 1, 1)
    with pytest.raises(RuntimeError, match=message):
        join_batches([batch, batch | change], "steps")


def test_no_other_attack_trusts_proofs_of_an_own_attack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may read what is proven; what it writes there reaches no other attack."""
    monkeypatch.chdir(tmp_path)
    body = "assert batch.certified.pop((3, 0.1)); batch.certified[4, 0.1] = True"
    Path("mine.py").write_text(ATTACK.format(body=body), encoding="utf-8")
    cpu = torch.device("cpu")
    network = load_for_attack(write_fitted_network(Path("net.safetensors")), cpu)
    test = load(network.metadata["data"], Path("unused"), "test")
    options = resolve_entry("attacks", {"kind": "./mine.py", "images": 2, "eps": 0.1}, "mine")
    certified = {(3, 0.1): True}
    evaluate_network(network, "mine", options, test, cpu, "", certified=certified)
    assert certified == {(3, 0.1): True}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "batch.images.zero_()",
            "attack ./mine.py: moved an image by 1.000000 where 0.100000 is allowed",
        ),
        ("{}['x']", "KeyError: 'x'"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_an_own_attack_that_fails_is_one_line(
    body: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fitted_network(Path("net.safetensors"))
    Path("mine.py").write_text(ATTACK.format(body=body), encoding="utf-8")
    entry = "mine={kind: ./mine.py, images: 2, eps: 0.1}"
    command = ["--checkpoint", "net.safetensors", "--attack", entry, "--output", "mine.h5"]
    assert run("evaluate", *command) == 2
    printed = capsys.readouterr().err
    hint = "with the code of mine.py; --debug prints the traceback"
    assert printed.startswith("irpipe evaluate: error: mine on net.safetensors: ")
    assert printed.endswith(f"{message}, {hint}\n")
    assert printed.count("\n") == 1
    assert not Path("mine.h5").exists()
