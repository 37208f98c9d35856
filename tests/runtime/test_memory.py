"""What fits into memory: rows in chunks, halved when a GPU runs out, with the same numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pretended_device import DEVICE, PretendedDevice
from random_networks import IDENTITY, MNIST, random_network
from torch import Tensor, nn

from irpipe import config
from irpipe.datasets import Images
from irpipe.evaluation import evaluate_network
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import LoadedNetwork
from irpipe.runtime import memory
from irpipe.runtime.memory import gradient_bytes, map_fitting_rows

N_IMAGES = 5


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    memory._tell_once.cache_clear()
    yield
    memory._tell_once.cache_clear()


def with_room_for(n_rows: int, sizes: list[int]) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """A function that runs out of memory above `n_rows` rows, and notes how many it is given."""

    def add(left: Tensor, right: Tensor) -> list[Tensor]:
        sizes.append(len(left))
        if len(left) > n_rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [left + right, right]

    return add


def test_rows_are_halved_until_they_fit_and_joined_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, sizes = torch.arange(11), list[int]()
    for _ in range(2):
        total, right = map_fitting_rows(with_room_for(3, sizes), rows, 2 * rows)
        assert total.tolist() == (3 * rows).tolist()
        assert right.tolist() == (2 * rows).tolist()
    assert sizes == 2 * [11, 6, 3, 3, 3, 2]
    told = "cpu: out of memory: fewer images are computed at a time, with the same numbers\n"
    assert capsys.readouterr().err == told


def test_one_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        map_fitting_rows(with_room_for(0, []), torch.arange(4), torch.arange(4))


def test_no_row_is_computed_as_one_empty_chunk() -> None:
    total, _ = map_fitting_rows(with_room_for(3, []), torch.ones(0, 2), torch.ones(0, 2))
    assert total.shape == (0, 2)


def test_the_rows_of_a_chunk_follow_from_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    image, sizes = torch.rand(1, 1, 4, 4), list[int]()
    row_bytes = gradient_bytes(lambda images: images.square().exp().sum(), image)
    assert row_bytes == 2 * 16 * 4  # autograd keeps x and exp(x^2)
    monkeypatch.setattr(memory, "CPU_BYTES", 5 * row_bytes + 1)
    rows = torch.arange(11)
    map_fitting_rows(with_room_for(11, sizes), rows, rows, row_bytes=lambda: row_bytes)
    assert sizes == [5, 5, 1]


def test_a_gpu_lends_a_share_of_what_is_free_or_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 10_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert memory.available_bytes(torch.device("cuda", 0)) == 400


# Options of a kind, and how many images fit into a pass without a gradient.
AUTOATTACK = ["apgd-ce", "apgd-t", "square"]
ATTACKS: dict[str, tuple[dict[str, Any], int]] = {
    "pgd": ({"steps": [1, 3], "eps": [0.05, 0.2], "random_start": True}, 2),
    "margin_pgd": ({"steps": [3], "eps": [0.05, 0.2], "restarts": 2}, 2),
    "aai": ({"steps": 3, "eps": [0.05, 0.2]}, N_IMAGES),
    "autoattack": ({"attacks_to_run": ["square"], "n_queries": 3, "eps": [0.05]}, 2),
    **{
        f"autoattack in {norm}": (
            {"attacks_to_run": AUTOATTACK, "n_queries": 3, "steps": 3, "eps": [eps], "norm": norm},
            2,
        )
        for norm, eps in (("l2", 0.01), ("l1", 0.2))
    },
    "isa": (
        {"steps": 2, "binary_search_steps": 2, "norms": ["l1"], "class_sets": ["two"]},
        N_IMAGES,
    ),
    "fog": ({"steps": 2, "eps": [500]}, 2),  # the batch decides its pictures
    "jpeg": ({"steps": 2, "eps": [0.5], "iterate": "worst", "variant": "fixed"}, 2),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_half_the_rows_give_the_same_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gradients of two images fit at a time, but the attacks have five."""
    entry, n_without_gradient = ATTACKS[name]
    entry = {"kind": name.partition(" ")[0], "images": N_IMAGES, **entry}
    options = config.resolve_named("attacks", entry, "attacks.test")
    network = random_network("small", MNIST).requires_grad_(False).eval()
    images = torch.rand(N_IMAGES, *MNIST, generator=torch.Generator().manual_seed(0))
    test = Images(images, network(images).argmax(dim=1))
    is_small = False

    def refuse_many(backbone: nn.Module, inputs: tuple[Tensor]) -> None:
        n_at_most = 2 if inputs[0].requires_grad else n_without_gradient
        if is_small and len(inputs[0]) > n_at_most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.backbone.register_forward_pre_hook(refuse_many)
    network.move_to(DEVICE)
    loaded = LoadedNetwork(network, FoldedNetwork(network, MNIST), IDENTITY, "none")
    with PretendedDevice():
        expected = evaluate_network(loaded, "test", options, test, DEVICE, "none").arrays
        is_small = True
        arrays = evaluate_network(loaded, "test", options, test, DEVICE, "none").arrays
    assert "out of memory" in capsys.readouterr().err
    for array, values in expected.items():
        np.testing.assert_allclose(arrays[array], values, rtol=1e-5, atol=1e-6, err_msg=array)
