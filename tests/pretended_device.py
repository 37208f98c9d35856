"""An accelerator for machines without one: its tensors say `pretended:0` and compute on the CPU.

It refuses what CUDA refuses: operands on two devices and, while a graph is captured, whatever
makes the host wait for a value. `counts` has how often each operation was launched, how often the
host read a value, and how often data moved to the device. Views launch nothing, and the operations
of a graph count when it is captured, in `captured`, and not when it is replayed.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from gpu_wanted import IS_GPU
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from irpipe.runtime import cuda_graph

if IS_GPU:
    # torch would run its gradients on no stream of the GPU, out of the graphs that it captures.
    pytest.skip("torch computes gradients on one accelerator a process", allow_module_level=True)
BACKEND = "pretended"
_setup_privateuseone_for_python_backend(BACKEND)
DEVICE = torch.device(BACKEND, 0)
# torch.utils.checkpoint asks every backend that is registered, wherever it computes.
getattr(torch, BACKEND).get_amp_supported_dtype = lambda *_: [torch.bfloat16]

aten = torch.ops.aten
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
# The host waits for the device until it knows the value, or how many elements there are.
HOST_READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
}
HOST_READ = "host reads"
COPY = "copies to the device"

# They launch nothing, like the operations that torch itself knows as views.
VIEWS = {aten._unsafe_view.default, aten.empty.memory_format, aten.new_empty.default}

counts: Counter[str] = Counter()
captured: Counter[str] = Counter()
_is_capturing = False
_is_replaying = False


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device. `on_cpu` holds its numbers."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls: type, on_cpu: Tensor) -> "PretendedTensor":
        tensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device=DEVICE,
        )
        tensor.on_cpu = on_cpu
        return tensor

    def __repr__(self) -> str:
        return f"PretendedTensor({self.on_cpu})"

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy; use .cpu() first")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


def capture(
    function: Callable[..., list[Tensor]], inputs: list[Any]
) -> tuple[Callable[[], None], list[Tensor]]:
    """Do what `cuda_graph.capture` does, and refuse what CUDA refuses during a capture."""
    before = [tensor.on_cpu.clone() for tensor in inputs]
    with _set("_is_capturing"):
        outputs = function(*inputs)
    outputs = [output.clone() for output in outputs]
    # A replay starts from the same inputs.
    assert all(torch.equal(a, b.on_cpu) for a, b in zip(before, inputs, strict=True))

    def replay() -> None:
        with _set("_is_replaying"):
            for output, value in zip(outputs, function(*inputs), strict=True):
                output.copy_(value)

    return replay, outputs


class PretendedDevice(TorchDispatchMode):
    """Within this context, tensors can be made on the pretended device and moved to it.

    `capture` stands in for `cuda_graph.capture`.
    """

    def __init__(self, capture: Callable[..., Any] = capture) -> None:
        super().__init__()
        self.capture = capture

    def __enter__(self) -> Any:
        self.capture_before = cuda_graph.capture
        cuda_graph.capture = self.capture
        # Else `Module.double()` changes the dtype that a weight shows, and not `on_cpu`.
        torch.__future__.set_swap_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        cuda_graph.capture = self.capture_before
        torch.__future__.set_swap_module_params_on_conversion(False)
        super().__exit__(*error)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what keeps torch from compiling `_run` would take long at each operation

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


@contextmanager
def _set(flag: str) -> Iterator[None]:
    """Set a flag of this module within the context."""
    globals()[flag] = True
    try:
        yield
    finally:
        globals()[flag] = False


def _count(operation: Any) -> None:
    if not (_is_replaying or operation.is_view or operation in VIEWS):
        (captured if _is_capturing else counts)[str(operation)] += 1


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation as the device would, or raise as it would."""
    if operation is aten._to_copy.default:
        return _to_copy(args[0], kwargs)
    if operation is aten.copy_.default:
        return _copy_into(*args, **kwargs)
    pretended: list[PretendedTensor] = []
    others: list[Tensor] = []
    on_cpu_args = _on_cpu(args, pretended, others)
    on_cpu = {name: _on_cpu(value, pretended, others) for name, value in kwargs.items()}
    device = kwargs.get("device")
    if not pretended and not _is_pretended(device):
        return operation(*args, **kwargs)
    _count(operation)
    _refuse_mixed_devices(operation, args, others)
    if operation in HOST_READS or (operation in INDEXING and _has_mask(args[1])):
        _wait(HOST_READ, operation)
    if device is not None:
        on_cpu["device"] = torch.device("cpu")
    output = operation(*on_cpu_args, **on_cpu)
    if device is not None and not _is_pretended(device):
        return output
    return _as_pretended(output, pretended)


def _on_cpu(value: Any, pretended: list[PretendedTensor], others: list[Tensor]) -> Any:
    """An operand as the CPU has it. Its tensors are appended to one of the lists.

    This runs for each operand of each operation; `tree_map` takes far longer.
    """
    if isinstance(value, PretendedTensor):
        pretended.append(value)
        return value.on_cpu
    if isinstance(value, Tensor):
        others.append(value)
    elif isinstance(value, list | tuple):
        return [_on_cpu(part, pretended, others) for part in value]
    return value


def _as_pretended(value: Any, operands: list[PretendedTensor]) -> Any:
    """An output as the device has it: the operand itself if the operation worked in place."""
    if isinstance(value, list | tuple):
        return type(value)([_as_pretended(part, operands) for part in value])
    if not isinstance(value, Tensor):
        return value
    for operand in operands:
        if operand.on_cpu is value:
            return operand
    return PretendedTensor(value)


def _to_copy(source: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """`aten._to_copy`: change dtype, layout or device."""
    options = dict(kwargs)
    device = options.pop("device", None)
    options.pop("non_blocking", None)
    was_there = isinstance(source, PretendedTensor)
    is_there = was_there if device is None else _is_pretended(device)
    if was_there != is_there:
        _wait(COPY if is_there else HOST_READ, "a copy between devices")
    elif was_there:
        _count(aten._to_copy.default)
    numbers = source.on_cpu if isinstance(source, PretendedTensor) else source
    copy = aten._to_copy.default(numbers, **options)
    return PretendedTensor(copy) if is_there else copy


def _copy_into(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """`aten.copy_`. CUDA takes numbers from the host without waiting."""
    is_there, was_there = (isinstance(tensor, PretendedTensor) for tensor in (target, source))
    if is_there != was_there and source.dim():
        _wait(COPY if is_there else HOST_READ, "a copy between devices")
    elif is_there:
        _count(aten.copy_.default)
    numbers = [t.on_cpu if isinstance(t, PretendedTensor) else t for t in (target, source)]
    numbers[0].copy_(numbers[1])
    return target


def _refuse_mixed_devices(operation: Any, args: Any, others: list[Tensor]) -> None:
    """Raise as CUDA does. It takes numbers (0-dim tensors) and indices that lie on the CPU."""
    on_cpu = [tensor for tensor in others if tensor.dim()]
    if not on_cpu:
        return
    if operation in INDEXING and isinstance(args[0], PretendedTensor):
        indices = {id(index) for index in args[1] if index is not None}
        if all(id(tensor) in indices for tensor in on_cpu):
            _wait(COPY, "an index on the CPU")
            return
    raise RuntimeError(
        f"Expected all tensors to be on the same device, found {DEVICE} and cpu ({operation})"
    )


def _has_mask(indices: Any) -> bool:
    """Whether an index is boolean, so that the host must count its elements."""
    return any(index is not None and index.dtype == torch.bool for index in indices)


def _wait(what: str, cause: object) -> None:
    """Count that the host waits for the device; raise if a graph is being captured."""
    counts[what] += 1
    if _is_capturing:
        raise RuntimeError(f"operation not permitted when stream is capturing: {cause}")


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type == BACKEND


_library = torch.library.Library("aten", "IMPL")
_fallback = torch.library.Library("_", "IMPL")


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> Tensor:
    return PretendedTensor(torch.empty_strided(size, stride, dtype=dtype))


def _empty(size: Any, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    memory_format = memory_format or torch.contiguous_format
    return PretendedTensor(torch.empty(size, dtype=dtype, memory_format=memory_format))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    return _copy_into(target, source)


_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
_fallback.fallback(lambda operation, *args, **kwargs: _run(operation, args, kwargs), "PrivateUse1")
