"""Milliseconds of a training step: irpipe against a plain autograd port of the same recipe, in one run, on MNIST Small.

    python benchmarks/training.py [--data FOLDER] [--steps 20] [METHOD ...]

Both take steps of the recipe `timing` (batch 50, 40 inner steps at the full radius), in turns, so that a noisy machine
slows both. The port is what the paper's equations give when written down: the whole network, all 100 channels of its
last convolution, in each of the 40 gradients.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain import Plain
from torch import Tensor
from torch.nn import functional as F

from irpipe import config
from irpipe.data import data_root
from irpipe.hardware import device
from irpipe.train import Plan, Trainer

METHODS = ("adv", "trades", "int_one_class", "int", "int_adv")
WEIGHT, STEPS, STEP_SIZE, RADIUS, RATE = 0.01, 40, 0.01, 0.3, 1e-4


def plain_loss(network: Plain, method: str, images: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """The method's loss as a function of the perturbed images, protocol C.2; what the clean ones give is kept."""
    if method == "adv":
        return lambda moved: F.cross_entropy(network(moved), labels)
    clean, clean_logits = network.both(images)
    true = F.one_hot(labels, 10).bool()

    def trades(moved: Tensor) -> Tensor:
        divergence = F.kl_div(F.log_softmax(network(moved), 1), F.softmax(clean_logits, 1), reduction="batchmean")
        return F.cross_entropy(clean_logits, labels) + divergence

    def interp(moved: Tensor) -> Tensor:
        maps, logits = network.both(moved)
        change = (maps - clean).abs().sum(dim=(2, 3))
        discrepancy = change[true]
        if method != "int_one_class":
            share = torch.softmax(logits.masked_fill(true, -torch.inf), dim=1)
            discrepancy = discrepancy + (share * change).sum(dim=1)
        fitted = F.cross_entropy(logits if method == "int_adv" else clean_logits, labels)
        return fitted + WEIGHT * discrepancy.mean()

    return trades if method == "trades" else interp


def plain_step(method: str, network: Plain, images: Tensor, labels: Tensor) -> Callable[[], object]:
    """A function that takes one training step of a plain network."""
    optimiser = torch.optim.Adam(network.parameters(), RATE)

    def step() -> None:
        with torch.no_grad():
            ascended = plain_loss(network, method, images, labels)
        moved = (images + torch.empty_like(images).uniform_(-RADIUS, RADIUS)).clamp(0, 1)
        for _ in range(STEPS):
            moved = moved.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(ascended(moved), moved)
            moved = torch.clamp(moved + STEP_SIZE * gradient.sign(), images - RADIUS, images + RADIUS).clamp(0, 1)
        optimiser.zero_grad()
        plain_loss(network, method, images, labels)(moved.detach()).backward()
        optimiser.step()

    return step


def ours_step(method: str, data: Path) -> tuple[Trainer, Callable[[], object]]:
    """A trainer, and a function that takes one of its steps."""
    spec, images = config.lookup("methods", method, None), config.lookup("datasets", "mnist", None)
    recipe = config.lookup("recipes", "timing", None)
    trainer = Trainer(Plan("mnist", images, "small", method, spec, recipe, 0, "benchmark"), data, device("cpu"))

    def step() -> None:
        trainer.step()
        trainer.position.step += 1

    return trainer, step


def milliseconds(step: Callable[[], object]) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    """Print milliseconds a step of both and the median of their ratio, a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    print(f"{'method':14}{'irpipe':>10}{'plain':>10}{'ratio':>8}   ms a step, {torch.get_num_threads()} threads")
    for method in options.methods:
        trainer, ours = ours_step(method, data_root(options.data))
        plain = plain_step(method, Plain(trainer.network), trainer.training.images[:50], trainer.training.labels[:50])
        ours(), plain()
        pairs = [(milliseconds(ours), milliseconds(plain)) for _ in range(options.steps)]
        ratio = statistics.median(theirs / own for own, theirs in pairs)
        own, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{method:14}{own:10.1f}{theirs:10.1f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
