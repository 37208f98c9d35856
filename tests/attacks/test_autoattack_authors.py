"""AutoAttack breaks the images that its authors' own package breaks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pyautoattack import AutoAttack

from irpipe import config
from irpipe.datasets import load
from irpipe.evaluation import evaluate_network
from irpipe.evaluation.sample import draw_sample
from irpipe.networks.checkpoint import write_checkpoint
from irpipe.networks.load import load_for_attack
from irpipe.networks.released import read_released

CPU = torch.device("cpu")
N_IMAGES = 40


@pytest.mark.long
@pytest.mark.parametrize(
    ("dataset", "file", "method", "eps", "n_robust"),
    [
        ("mnist", "mnist_smallgap_normal_100.pkl", "normal", [0.05, 0.1], [21, 0]),
        ("cifar10", "cifar_smallgap_int_200.pkl", "int", [4 / 255, 8 / 255], [11, 2]),
    ],
)
def test_the_same_images_fall_but_for_one_that_random_starts_decide(
    dataset: str,
    file: str,
    method: str,
    eps: list[float],
    n_robust: list[int],
    shared: Path,
    cifar_root: Path,
    tmp_path: Path,
) -> None:
    released = shared / "released" / "networks" / file
    path = tmp_path / "network.safetensors"
    write_checkpoint(path, read_released(released, dataset, {"kind": dataset}, "small", method))
    loaded = load_for_attack(path, CPU)
    data = shared / "datasets" if dataset == "mnist" else cifar_root
    test = load({"kind": dataset}, data, "test")
    entry = {"kind": "autoattack", "eps": eps, "images": N_IMAGES}
    options = config.resolve_named("attacks", entry, "test")
    arrays = evaluate_network(loaded, "autoattack", options, test, CPU, "none").arrays
    sample, _ = draw_sample(test, options, CPU)
    for i, bound in enumerate(eps):
        # The folded network computes the same logits in less time.
        authors = AutoAttack(loaded.folded, norm="Linf", eps=bound, version="standard", seed=0)
        images, labels = sample.images.float(), sample.labels
        adversarial, _ = authors.run_standard_evaluation(images, labels, batch_size=N_IMAGES)
        survives = (loaded.network(adversarial).argmax(dim=1) == labels).numpy()
        assert survives.sum() == n_robust[i]
        assert np.sum(arrays["correct"][:, i, 0] != survives) <= 1
