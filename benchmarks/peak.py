"""Share of the machine's peak: multiply-adds per second of PGD over those of a matrix product.

The product is of two large matrices on the same cores.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import Row, Setup
from irpipe.ascent.gradient_ascent import linf_sign_update
from irpipe.ascent.snapshots import gradient_ascent_snapshots
from irpipe.datasets import facts
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import load_network

NETWORKS = (  # data set, model, method, number of images, steps
    ("mnist", "small", "int", 200, 40),
    ("cifar10", "small", "int", 200, 40),
    ("mnist", "pool", "int", 50, 10),
    ("cifar10", "wresnet", "int", 10, 10),
    ("restricted_imagenet", "wresnet", "normal", 1, 10),
)
MATRIX_SIZE = 2048


def count_multiply_adds(folded: FoldedNetwork, images: Tensor) -> int:
    """Return the multiply-adds of a forward and a backward pass for one image.

    A backward pass for the image alone costs as much as a forward pass.
    """
    counts: list[int] = []

    def count(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        height, width = module.kernel_size
        counts.append(output[0].numel() * module.in_channels * height * width)

    convolutions = [part for part in folded.backbone.modules() if isinstance(part, nn.Conv2d)]
    hooks = [convolution.register_forward_hook(count) for convolution in convolutions]
    folded(images[:1])
    for hook in hooks:
        hook.remove()
    return 2 * (sum(counts) + folded.matrix.numel())


def peak_multiply_adds_per_second() -> float:
    """Return the multiply-adds per second of a matrix product, in the best of five runs."""
    left, right = torch.rand(2, MATRIX_SIZE, MATRIX_SIZE)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - begin)
    return MATRIX_SIZE**3 / best


def run_pgd(folded: FoldedNetwork, start: Tensor, labels: Tensor, steps: int) -> None:
    """Run PGD such that no image leaves early."""

    def loss(points: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(folded(points), labels[rows], reduction="sum")

    snapshots = gradient_ascent_snapshots(
        start,
        loss,
        lambda rows: linf_sign_update(start[rows], 0.3, 0.01),
        [steps],
        detect_cycles=False,
    )
    list(snapshots)


def rows(setup: Setup) -> Iterator[Row]:
    """Yield the microseconds per step and image, and their share of the peak, of each network."""
    for dataset, model, method, n_images, steps in NETWORKS:
        path = setup.checkpoint(dataset, model, method)
        checkpoint = read_checkpoint(path)
        shape = facts(checkpoint.metadata["data"]).shape
        folded = FoldedNetwork(load_network(checkpoint, path), shape)
        start = torch.rand(n_images, *shape, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(n_images, dtype=torch.long)
        run_pgd(folded, start, labels, steps)  # Not timed: it reads code into memory.
        seconds = []
        for _ in range(3):
            begin = time.perf_counter()
            run_pgd(folded, start, labels, steps)
            seconds.append((time.perf_counter() - begin) / (n_images * steps))
        per_second = count_multiply_adds(folded, start) / min(seconds)
        share = per_second / peak_multiply_adds_per_second()
        yield {
            "network": f"{dataset} {model}",
            "µs per step and image": 1e6 * min(seconds),
            "share": f"{share:.0%}",
        }
