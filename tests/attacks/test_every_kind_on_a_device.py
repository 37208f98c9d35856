"""Every attack kind, with every option that has choices, gives the CPU's numbers on a device."""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from accelerator import IS_GPU, accelerator
from random_networks import IDENTITY, MNIST, random_network

from irpipe import config
from irpipe.config.kinds import kinds, options_model
from irpipe.datasets import Images, load
from irpipe.evaluation import evaluate_network
from irpipe.networks.checkpoint import Checkpoint, write_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import LoadedNetwork
from irpipe.results.result import Result

# What makes an attack short, where a kind has the option.
SHORT: dict[str, Any] = {
    "images": 3,
    "batch_size": 3,
    "steps": 3,
    "restarts": 1,
    "n_queries": 10,
    "leaves": 20,
    "ig_steps": 5,
    "binary_search_steps": 2,
    "eps_multipliers": [1.6],
    "save_examples": 1,
}
# Proofs take seconds an image.
SHORTER: dict[str, dict[str, Any]] = {
    kind: {"images": 1, "eps": [0.05]} for kind in ("certify", "certify_maps", "certify_top_k")
}
SHORTER["certify_top_k"]["top_k"] = 2
# Further code paths, which depend on a number.
PATHS: dict[str, list[dict[str, Any]]] = {
    "pgd": [{"step_size_factor": 2.5}, {"steps": [1, 3]}],
    "aai": [{"hinge_weight": 1.0, "kappa": 0.1}],
    "isa": [{"search_rtol": 0.5}, {"grad_scale": None}],
    "pgd_maps": [{"target_class": 3}, {"indices": [5, 2]}],
}
# A step of Gabor jumps from one corner of a box to another, and on a GPU one of JPEG in l1 from one
# coefficient to another, so that rounding decides pictures. Those of an untargeted attack are so
# near a boundary that it also decides what the network says of them.
PICTURES = {"linf_distance", "loss", "adversarial_uint8", "norm", "boundary_share"}
VERDICTS = {"prediction", "correct"}
TIMES = {"seconds"}
# bfloat16 rounds so much that a GPU finds other images than a CPU.
TOO_COARSE = {"grad_dtype"} if IS_GPU else set()


def choices(annotation: Any) -> list[Any]:
    """The values of an option that has choices; none for a number."""
    if annotation is bool:
        return [False, True]
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return list(typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return choices(typing.get_args(annotation)[0])
    return []


def variants(kind: str) -> Iterator[dict[str, Any]]:
    """The defaults, one variant for each other choice of an option, and those in PATHS."""
    yield {}
    for name, field in options_model("attacks", kind).model_fields.items():
        for choice in choices(field.annotation):
            if choice != field.default and name not in TOO_COARSE:
                yield {name: choice}
    yield from PATHS.get(kind, [])


CASES = [(kind, variant) for kind in kinds("attacks") for variant in variants(kind)]


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of another network for the same images."""
    network = random_network("small", MNIST)
    with torch.no_grad():
        network.head.neg_()
    path = tmp_path_factory.mktemp("surrogate") / "network.safetensors"
    write_checkpoint(path, Checkpoint(IDENTITY, dict(network.state_dict())))
    return path


def evaluate(kind: str, variant: dict[str, Any], surrogate: Path, device: torch.device) -> Result:
    fields = options_model("attacks", kind).model_fields
    entry = {name: value for name, value in SHORT.items() if name in fields} | variant
    if "surrogates" in fields:
        entry["surrogates"] = [str(surrogate)]
    if "eps" in fields and kind not in ("fog", "gabor", "jpeg", "snow"):
        entry["eps"] = [0.02, 0.1]
    entry |= SHORTER.get(kind, {})
    options = config.resolve_named("attacks", {"kind": kind, **entry}, "attacks.test")
    network = random_network("small", MNIST).requires_grad_(False).eval().move_to(device)
    loaded = LoadedNetwork(network, FoldedNetwork(network, MNIST), IDENTITY, "none")
    test = load({"kind": "digits"}, Path(), "test")
    # The network is right about all images that it attacks.
    test = Images(test.images, network.cpu()(test.images).argmax(dim=1))
    network.move_to(device)
    return evaluate_network(loaded, "test", options, test, device, "none")


@pytest.mark.gpu
@pytest.mark.parametrize(("kind", "variant"), CASES, ids=str)
def test_the_numbers_are_those_of_the_cpu(
    kind: str, variant: dict[str, Any], surrogate: Path
) -> None:
    expected = evaluate(kind, variant, surrogate, torch.device("cpu")).arrays
    with accelerator() as device:
        arrays = evaluate(kind, variant, surrogate, device).arrays
    assert arrays.keys() == expected.keys()
    jumps = kind == "gabor" or (IS_GPU and (kind, variant) == ("jpeg", {"norm": "l1"}))
    decided = (PICTURES if jumps else set()) | (VERDICTS if jumps and variant else set())
    for name in arrays.keys() - TIMES - decided:
        np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
