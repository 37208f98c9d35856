"""AutoAttack, its standard version, against its authors' own package; one round.

Both attack the same images of Int on MNIST Small at eps = .3. irpipe calls the package's members,
but on the folded network, and shares out FAB's images to all cores.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack

from benchmarks.common import Row, Setup, comparison, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe import config
from irpipe.datasets import load
from irpipe.evaluation import evaluate_checkpoint
from irpipe.evaluation.sample import draw_sample
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.load import load_network

N_IMAGES = 10
EPS = 0.3


def irpipe_survivors(setup: Setup, path: Path) -> np.ndarray:
    """Which images irpipe's AutoAttack leaves correct, `[N]`."""
    result = evaluate_checkpoint(path, "aa", _options(), setup.data, setup.device, "benchmark")
    return result.arrays["correct"][:, 0, 0]


def authors_survivors(setup: Setup, path: Path) -> np.ndarray:
    """Which images the authors' AutoAttack leaves correct, `[N]`."""
    checkpoint = read_checkpoint(path)
    network = PlainNetwork(load_network(checkpoint, path).to(setup.device)).requires_grad_(False)
    test = load(checkpoint.metadata["data"], setup.data, "test")
    sample, _ = draw_sample(test, _options(), setup.device)
    authors = AutoAttack(network.eval(), norm="Linf", eps=EPS, seed=0, device=setup.device)
    images = sample.images.float()
    adversarial, _ = authors.run_standard_evaluation(images, sample.labels, batch_size=N_IMAGES)
    with torch.no_grad():
        is_correct = network(adversarial).argmax(dim=1) == sample.labels
    return np.asarray(is_correct.cpu())


def _options() -> dict[str, object]:
    entry = {"kind": "autoattack", "eps": [EPS], "images": N_IMAGES}
    return config.resolve_named("attacks", entry, "benchmark")


def rows(setup: Setup) -> Iterator[Row]:
    """Yield the comparison."""
    path = setup.checkpoint("mnist", "small", "int")
    (own, expected), (seconds, other_seconds) = time_in_turns(
        1, partial(irpipe_survivors, setup, path), partial(authors_survivors, setup, path)
    )
    equal = f"{int((own != expected).sum())} of {N_IMAGES} images differ"
    work = f"AutoAttack, MNIST Small int, eps = {EPS}, {N_IMAGES} images"
    yield comparison(work, "pyautoattack", seconds, other_seconds, equal)
