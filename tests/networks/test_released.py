"""The released networks are read as they are; any other pickle is refused before it runs."""

import os
import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irpipe.errors import IrpipeError
from irpipe.networks.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from irpipe.networks.released import read_released


@pytest.fixture(scope="module")
def networks(shared: Path) -> Path:
    return shared / "released" / "networks"


class Call:
    """An object that calls a function when it is unpickled without care."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def refused(path: Path, message: str) -> pytest.RaisesExc[IrpipeError]:
    """Expect exactly one line that begins with the path."""
    return pytest.raises(IrpipeError, match=rf"\A{re.escape(str(path))}: {message}[^\n]*\Z")


def import_network(path: Path, model: str = "small", dataset: str = "mnist") -> Checkpoint:
    return read_released(path, dataset, {"kind": dataset}, model, "int")


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["system", "eval", "memmap", "load"])
def test_pickles_that_call_are_refused_before_they_run(
    name: str, protocol: int, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    path = tmp_path / "hostile.pkl"
    call = {
        "system": Call(os.system, f"touch {shlex.quote(str(touched))}"),
        "eval": Call(eval, f"open({str(touched)!r}, 'w').close()"),
        "memmap": Call(np.memmap, str(touched), "uint8", "w+", 0, 1),
        "load": Call(np.load, str(touched)),
    }[name]
    path.write_bytes(pickle.dumps([(0.5, call)], protocol))
    message = r"; released networks hold numpy arrays only, so it was not run"
    with refused(path, rf"asks for [a-z_]+\.{name}{message}"):
        import_network(path)
    assert not touched.exists()
    if name != "load":  # Python's own unpickler does run them.
        pickle.loads(path.read_bytes())
        assert touched.exists()


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.4, 0.99, 1.0])
def test_a_truncated_pickle_is_refused(share: float, networks: Path, tmp_path: Path) -> None:
    content = (networks / "mnist_smallgap_int_100.pkl").read_bytes()
    path = tmp_path / "cut.pkl"
    path.write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    with refused(path, "not a readable network"):
        import_network(path)


@pytest.mark.parametrize(
    "content", [{"a": 1}, 5, [], [(np.zeros((4, 4, 1, 16), "f"), np.zeros(16, "f"))], [1, 2]]
)
def test_pickles_of_something_else_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(pickle.dumps(content, 3).replace(b"numpy._core", b"numpy.core"))
    messages = (
        "expected a list of .* pairs; found",
        "not a readable network",
        "has 0 convolutions; model small has 3",
    )
    with refused(path, f"({'|'.join(messages)})"):
        import_network(path)


def test_a_network_of_another_model_or_data_set_is_refused(networks: Path) -> None:
    path = networks / "mnist_smallgap_int_100.pkl"
    with refused(path, "has 3 convolutions; model pool has 2, then a head"):
        import_network(path, "pool")
    shapes = r"\(16, 1, 4, 4\); model small wants \(16, 3, 4, 4\)"
    with refused(path, rf"backbone\.0\.weight is {shapes}"):
        import_network(path, "small", "cifar10")


@pytest.mark.parametrize(
    ("file", "dataset", "model", "layers"),
    [
        # Width of the kernel, channels in, channels out.
        ("mnist_smallgap_int_100", "mnist", "small", [(4, 1, 16), (4, 16, 32), (7, 32, 100)]),
        ("mnist_pool_int_100", "mnist", "pool", [(5, 1, 32), (5, 32, 64)]),
        (
            "cifar_wresnet_int_200",
            "cifar10",
            "wresnet",
            [(3, 3, 16)] + [(3, 16, 16)] * 10 + [(3, 16, 32)],
        ),
    ],
)
def test_released_networks_have_the_weights_of_the_file(
    file: str,
    dataset: str,
    model: str,
    layers: list[tuple[int, int, int]],
    networks: Path,
    tmp_path: Path,
) -> None:
    path = networks / f"{file}.pkl"
    checkpoint = import_network(path, model, dataset)
    tensors = checkpoint.tensors.values()
    kernels = [tensor for tensor in tensors if tensor.ndim == 4]
    biases = [tensor for tensor in tensors if tensor.ndim == 1]
    shapes = [tuple(kernel.shape) for kernel in kernels[: len(layers)]]
    assert shapes == [(n_out, n_in, width, width) for width, n_in, n_out in layers]
    with path.open("rb") as handle:
        layers_of_file = pickle.load(handle, encoding="latin1")
    *convolutions, head = [layer for layer in layers_of_file if np.ndim(layer[0]) == 4]
    for kernel, bias, (kernel_of_file, bias_of_file) in zip(
        kernels, biases, convolutions, strict=True
    ):
        # The file has [row, column, in, out], PyTorch has [out, in, row, column].
        assert kernel[-1, 0, 2, 1].item() == kernel_of_file[2, 1, 0, -1]
        assert bias.tolist() == bias_of_file.tolist()
    assert len(head) == 1
    assert np.array_equal(checkpoint.tensors["head"].numpy(), head[0][0, 0].T)
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert (checkpoint.metadata["run"], checkpoint.metadata["file"]) == ("released", path.name)
    write_checkpoint(tmp_path / "net.safetensors", checkpoint)
    assert read_checkpoint(tmp_path / "net.safetensors").sha256 == checkpoint.sha256
