"""On a GPU a loss is read now and then, but a training stops at the step that diverges."""

from pathlib import Path
from typing import Any

import pretended_device
import pytest
import torch
from pretended_device import DEVICE, HOST_READ, PretendedDevice

from irpipe import config
from irpipe.networks import architectures
from irpipe.training import trainer as module
from irpipe.training.plan import TrainingPlan
from irpipe.training.resume import training_state
from irpipe.training.trainer import Trainer

RECIPE = {
    "batch_size": 4,
    "epochs": 1,
    "lr": [[3, 1.0e-3], [4, 1.0e12]],
    "eps_schedule": [[0, 0], [3, 1]],
    "inner_steps": 1,
    "inner_step_size": 0.1,
}


def make_trainer(device: torch.device, **changes: Any) -> Trainer:
    recipe = config.resolve_named("recipes", RECIPE | changes, "recipe")
    entry = {"kind": "cross_entropy", "adversarial": True}
    options = config.resolve_named("methods", entry, "method")
    plan = TrainingPlan("digits", {"kind": "digits"}, "small", "adv", options, recipe, 0, "none")
    return Trainer(plan, Path(), device)


def test_a_training_stops_before_the_step_that_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU, too, has a device's layout, so that both round alike.
    monkeypatch.setattr(architectures, "_in_channels_last", lambda network: network)
    cpu = make_trainer(torch.device("cpu"))
    for _ in range(5):
        cpu.step()
    expected = training_state(cpu)
    with pytest.raises(FloatingPointError, match="at step 5") as error:
        cpu.step()
    with PretendedDevice():
        there = make_trainer(DEVICE)
        pretended_device.counts.clear()
        for _ in range(8):
            there.step()
        assert pretended_device.counts[HOST_READ] == 0
        with pytest.raises(FloatingPointError, match="at step 5") as error_there:
            there.check()
        state = training_state(there)
    assert str(error_there.value).split(" at ")[0].split()[:3] == str(error.value).split()[:3]
    assert state.metadata["progress"] == pytest.approx(expected.metadata["progress"])
    assert state.metadata["generator"] == expected.metadata["generator"]
    for name, value in expected.tensors.items():
        torch.testing.assert_close(state.tensors[name], value, rtol=1e-3, atol=1e-6)
    # The CPU, too, is where it was before the step.
    again = training_state(cpu)
    assert again.metadata == expected.metadata
    assert all(torch.equal(again.tensors[name], value) for name, value in expected.tensors.items())


def test_the_host_reads_once_in_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.STEPS_PER_CHECK == 50
    monkeypatch.setattr(module, "STEPS_PER_CHECK", 5)
    with PretendedDevice():
        there = make_trainer(DEVICE, lr=[[0, 1.0e-3]])
        pretended_device.counts.clear()
        for _ in range(12):
            there.step()
    assert pretended_device.counts[HOST_READ] == 2
