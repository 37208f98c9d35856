"""The pretended device refuses what CUDA refuses, so that the tests on it say something."""

import runpy
from collections.abc import Callable

import gpu_wanted
import pretended_device
import pytest
import torch
from pretended_device import DEVICE, HOST_READ, PretendedDevice
from torch import Tensor

from irpipe.runtime import cuda_graph


@pytest.fixture
def there() -> Tensor:
    with PretendedDevice():
        return torch.tensor([1.0, -2.0, 3.0]).to(DEVICE)


def test_it_computes_and_differentiates_and_counts(there: Tensor) -> None:
    pretended_device.counts.clear()
    point = there.requires_grad_()
    with PretendedDevice():
        (gradient,) = torch.autograd.grad((point**3).sum(), point)
        assert gradient.device == DEVICE
        assert gradient.cpu().tolist() == [3.0, 12.0, 27.0]
    # The CPU read the gradient.
    assert pretended_device.counts[HOST_READ] == 1
    assert pretended_device.counts["aten.sum.default"] == 1
    assert not any("expand" in operation for operation in pretended_device.counts)  # a view


def test_operations_in_place_and_on_views_change_the_tensor(there: Tensor) -> None:
    with PretendedDevice():
        there[1:].mul_(10)
        there += 1
        assert there.tolist() == [2.0, -19.0, 31.0]


@pytest.mark.parametrize(
    "operation",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.ones(3)[there.long()],
        lambda there: torch.where(there > 0, there, torch.ones(3)),
    ],
)
def test_operands_on_two_devices_are_refused(
    there: Tensor, operation: Callable[[Tensor], Tensor]
) -> None:
    with PretendedDevice(), pytest.raises(RuntimeError, match="same device"):
        operation(there)


def test_numpy_needs_the_cpu(there: Tensor) -> None:
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()


@pytest.mark.parametrize(
    "operation",
    [
        lambda there: [there if there.sum() > 0 else -there],
        lambda there: [there[there > 0]],
        lambda there: [there[torch.tensor([0, 2])]],
        lambda there: [there.nonzero()],
        lambda there: [there + torch.ones(3).to(DEVICE)],
        lambda there: [there.cpu().to(DEVICE)],
    ],
)
def test_a_capture_refuses_what_makes_the_host_wait(
    there: Tensor, operation: Callable[[Tensor], list[Tensor]]
) -> None:
    with PretendedDevice():
        operation(there)
        with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
            pretended_device.capture(operation, [there])


def test_a_replay_reads_the_inputs_again(there: Tensor) -> None:
    with PretendedDevice():
        replay, (output,) = pretended_device.capture(lambda there: [there * 2], [there])
        there.add_(1)
        replay()
        assert output.tolist() == [4.0, -2.0, 8.0]


def test_the_context_captures_there_and_nowhere_else() -> None:
    before = cuda_graph.capture
    with PretendedDevice():
        assert cuda_graph.capture is pretended_device.capture
    assert cuda_graph.capture is before


@pytest.mark.parametrize(("value", "is_gpu"), [("1", True), ("0", False), ("", False)])
def test_zero_asks_for_no_gpu(value: str, is_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRPIPE_GPU_TESTS", value)
    assert runpy.run_path(gpu_wanted.__file__)["IS_GPU"] == is_gpu
