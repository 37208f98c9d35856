"""Share of the machine's peak: PGD's multiply-adds a second over those of a large matrix product on the same cores."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import Setup
from irpipe.ascent import attain, sign_steps
from irpipe.data import dataset
from irpipe.evaluate import load_network
from irpipe.io import read_checkpoint
from irpipe.models import Folded

CASES = (
    ("mnist", "small", 200, 40),
    ("cifar10", "small", 200, 40),
    ("mnist", "pool", 50, 10),
    ("cifar10", "wresnet", 10, 10),
)
SIDE = 2048


def multiply_adds(folded: Folded, images: Tensor) -> int:
    """Of one image in a forward and a backward pass, which costs as much for the input alone."""
    counted: list[int] = []

    def count(module: nn.Conv2d, given: tuple[Tensor], out: Tensor) -> None:
        counted.append(out[0].numel() * module.in_channels * module.kernel_size[0] * module.kernel_size[1])

    hooks = [part.register_forward_hook(count) for part in folded.trunk.modules() if isinstance(part, nn.Conv2d)]
    folded(images[:1])
    for hook in hooks:
        hook.remove()
    return 2 * (sum(counted) + folded.matrix.numel())


def product() -> float:
    """Multiply-adds a second of a product of two square matrices: the best of five."""
    left, right = torch.rand(2, SIDE, SIDE)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - begin)
    return SIDE**3 / best


def climb(folded: Folded, start: Tensor, labels: Tensor, steps: int) -> None:
    """PGD, no trajectory left early."""

    def loss(points: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(folded(points), labels[rows], reduction="sum")

    list(attain(start, loss, lambda rows: sign_steps(start[rows], 0.3, 0.01), [steps], leave=False))


def shares(setup: Setup) -> Iterator[tuple[str, float, float]]:
    """Model, microseconds a step and image, share of the peak."""
    for data, model, images, steps in CASES:
        path = setup.checkpoint(data, model, "int")
        checkpoint = read_checkpoint(path)
        shape = dataset(checkpoint.metadata["data"]["kind"]).SHAPE
        folded = Folded(load_network(checkpoint, path), shape)
        start = torch.rand(images, *shape, generator=torch.Generator().manual_seed(0))
        labels = torch.zeros(images, dtype=torch.long)
        climb(folded, start, labels, steps)
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            climb(folded, start, labels, steps)
            taken.append((time.perf_counter() - begin) / (images * steps))
        yield f"{data} {model}", 1e6 * min(taken), multiply_adds(folded, start) / min(taken) / product()
