"""CUDA graphs, with torch's tracer in the place of CUDA.

Like a CUDA graph, the tracer keeps operations and the memory of their data, and no Python.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from config_entries import entry
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental import proxy_tensor
from torch.fx.experimental.proxy_tensor import make_fx

from irpipe.ascent.gradient_ascent import random_perturbation
from irpipe.ascent.snapshots import _snapshots_on_gpu, gradient_ascent_snapshots
from irpipe.attacks import AttackBatch, aai, pgd
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.runtime import cuda_graph
from irpipe.runtime.cuda_graph import CudaGraphed
from irpipe.training.plan import TrainingPlan
from irpipe.training.trainer import Trainer
from irpipe.training.weight_init import draw_weights

METHODS = ["adv", "trades", "ig_norm", "ig_sum_norm", "int", "int_adv", "int_one_class"]


def trace(
    function: Callable[..., list[Tensor]], inputs: list[Tensor]
) -> tuple[Callable[[], None], list[Tensor]]:
    """Do what `cuda_graph.capture` does.

    Fails if the function asks for a value, for which it would wait on a GPU.
    """
    before = [tensor.clone() for tensor in inputs]
    # The traced operations have those of autograd among them.
    graph = torch.no_grad()(make_fx(function)(*inputs))
    # A replay starts from the same inputs.
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True))
    outputs = [
        torch.full_like(output, torch.nan) if output.is_floating_point() else output
        for output in graph(*inputs)
    ]

    def replay() -> None:
        for output, value in zip(outputs, graph(*inputs), strict=True):
            output.copy_(value)

    return replay, outputs


@pytest.fixture(autouse=True)
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "capture", trace)
    # Torch would make one, with a stack trace, to describe each output.
    mode = FakeTensorMode(allow_fallback_kernels=True)
    monkeypatch.setattr(proxy_tensor, "FakeTensorMode", lambda **_: mode)


def test_python_numbers_are_captured_and_memory_is_read_at_each_replay() -> None:
    weight, factor = torch.tensor([1.0, 2.0]), 10.0
    scale = CudaGraphed(lambda tensor: [factor * weight * tensor])
    first = scale(torch.tensor([1.0, 1.0]))
    factor = 1000.0
    weight.add_(1)
    second = scale(torch.tensor([2.0, 3.0]))
    assert first[0].tolist() == [10, 20]  # the second call has left it alone
    assert second[0].tolist() == [40, 90]


def test_a_function_that_branches_on_values_cannot_be_captured() -> None:
    with pytest.raises(RuntimeError):
        CudaGraphed(lambda x: [x if x.sum() > 0 else -x])(torch.ones(2))


def batch_of_three() -> AttackBatch:
    network = build("small", (1, 28, 28), 10).requires_grad_(False)
    draw_weights(network, np.random.RandomState(3))
    images = torch.from_numpy(np.random.RandomState(4).uniform(size=(3, 1, 28, 28))).float()
    folded = FoldedNetwork(network, (1, 28, 28))
    labels, indices, rng = torch.tensor([1, 7, 3]), np.arange(3), np.random.RandomState(5)
    return AttackBatch(network, folded, images, labels, indices, rng)


def snapshots_as_on_a_gpu(
    start: Tensor, objective: Any, make_update: Any, step_counts: Any, label: str = ""
) -> Iterator[tuple[int, Tensor]]:
    counts = sorted(set(step_counts))
    return _snapshots_on_gpu(start.detach(), objective, make_update, counts, label)


@pytest.mark.parametrize("options", [{}, {"random_start": True}, {"step_size_factor": 1.0}])
def test_pgd_is_the_same(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"eps": [0.05, 0.2], "steps": [1, 4, 9], **options}
    expected = list(pgd.attack(batch_of_three(), **options))
    monkeypatch.setattr(pgd, "gradient_ascent_snapshots", snapshots_as_on_a_gpu)
    outputs = list(pgd.attack(batch_of_three(), **options))
    assert [output.axis_value for output in expected] == [1, 4, 9]
    assert [output.axis_value for output in outputs] == [1, 4, 9]
    for output, expected_output in zip(outputs, expected, strict=True):
        assert torch.equal(output.images, expected_output.images)


@pytest.mark.parametrize("interpreter", ["cam", "gradcampp", "ig"])
@pytest.mark.parametrize("loss", ["topk", "mass_center", "two_class", "targeted"])
def test_aai_is_the_same(interpreter: Any, loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "eps": [0.1],
        "steps": 3,
        "interpreter": interpreter,
        "loss": loss,
        "hinge_weight": 1.0,
        "images": 3,
    }
    (expected,) = aai.attack(batch_of_three(), **options)
    monkeypatch.setattr(aai, "gradient_ascent_snapshots", snapshots_as_on_a_gpu)
    (output,) = aai.attack(batch_of_three(), **options)
    assert torch.equal(output.images, expected.images)


@pytest.mark.parametrize("method", METHODS)
def test_the_captured_step_follows_images_schedule_noise_and_weights(method: str) -> None:
    recipe = entry("recipes", "timing") | {"batch_size": 2, "inner_steps": 1}
    options = entry("methods", method)
    plan = TrainingPlan("digits", {"kind": "digits"}, "small", method, options, recipe, 0, "test")
    eager, graphed = (Trainer(plan, Path(), torch.device("cpu")).training_step for _ in range(2))
    take = CudaGraphed(graphed._take, graphed.state)
    rng = np.random.RandomState(5)
    for eps in (0.05, 0.2):
        images = torch.from_numpy(rng.uniform(size=(2, *graphed.shape))).float()
        noise = random_perturbation(rng, "uniform", eps, images)
        labels = torch.from_numpy(rng.randint(10, size=2))
        tensors = images, labels, torch.tensor([eps, eps / 100]), noise
        before = graphed.network.head.clone()
        eager(*tensors)
        take(*tensors)
        assert not torch.equal(graphed.network.head, before)
        for value, expected in zip(graphed.state, eager.state, strict=True):
            assert torch.equal(value, expected)


def test_on_a_cpu_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "capture", lambda function, inputs: pytest.fail("captured"))
    snapshots = gradient_ascent_snapshots(
        torch.zeros(2, 1), lambda points, rows: points.sum(), lambda rows: torch.add, [2]
    )
    assert [count for count, _ in snapshots] == [2]
