"""On a GPU: captured steps give what the steps give, and images that do not fit are halved."""

import gc

import numpy as np
import pytest
import torch
from accelerator import IS_GPU, accelerator
from random_networks import IDENTITY, MNIST, random_network
from torch import Tensor
from torch.nn import functional as F

from irpipe import config
from irpipe.ascent.gradient_ascent import gradient_ascent, linf_sign_update
from irpipe.attacks import AttackBatch, pgd
from irpipe.datasets import Images
from irpipe.evaluation import evaluate_network
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import LoadedNetwork

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not IS_GPU, reason="IRPIPE_GPU_TESTS is not 1, as `make gpu` has it"),
]
N_IMAGES = 3_000


def test_a_graph_gives_what_the_steps_give() -> None:
    with accelerator() as device:
        network = random_network("small", MNIST).requires_grad_(False).move_to(device)
        images = torch.rand(3, *MNIST, generator=torch.Generator().manual_seed(4)).to(device)
        labels = torch.tensor([1, 7, 3], device=device)
        folded = FoldedNetwork(network, MNIST)
        rng = np.random.RandomState(5)
        batch = AttackBatch(network, folded, images, labels, np.arange(3), rng)

        def cross_entropy(points: Tensor) -> Tensor:
            return F.cross_entropy(folded(points), labels)

        for output in pgd.attack(batch, eps=[0.05, 0.2], steps=[1, 4, 9]):
            last_iterates = []
            for eps in (0.05, 0.2):
                update = linf_sign_update(images, eps, 0.01)
                *_, last = gradient_ascent(images, cross_entropy, update, output.axis_value)
                last_iterates.append(last)
            assert torch.allclose(output.images, torch.stack(last_iterates), atol=1e-6)


def test_images_that_do_not_fit_are_attacked_half_at_a_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = {"kind": "pgd", "steps": [3], "eps": [0.05, 0.2], "images": N_IMAGES}
    entry["batch_size"] = N_IMAGES
    options = config.resolve_named("attacks", entry, "attacks.test")
    network = random_network("small", MNIST).requires_grad_(False).eval()
    images = torch.rand(N_IMAGES, *MNIST, generator=torch.Generator().manual_seed(0))
    test = Images(images, network(images).argmax(dim=1))
    with accelerator() as device:
        network.move_to(device)
        loaded = LoadedNetwork(network, FoldedNetwork(network, MNIST), IDENTITY, "none")
        gc.collect()  # what other tests have captured
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        expected = evaluate_network(loaded, "test", options, test, device, "none").arrays
        assert "out of memory" not in capsys.readouterr().err
        needed = torch.cuda.max_memory_allocated(device) - before
        gc.collect()
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved(device) + 0.7 * needed
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(limit / total, device)
        try:
            arrays = evaluate_network(loaded, "test", options, test, device, "none").arrays
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    assert "out of memory" in capsys.readouterr().err
    for name, values in expected.items():
        np.testing.assert_allclose(arrays[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
