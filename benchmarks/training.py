"""A training step on MNIST Small, against a plain autograd port of the same recipe.

Both take steps of the recipe `timing` (batch 50, 40 inner steps at the full radius). The port is what the paper's
equations give when written down: the whole network, all 100 channels of its last convolution, in each of the 40
gradients.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import Line, Setup, in_turns, line
from benchmarks.plain import Plain
from irpipe import config
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


def lines(setup: Setup) -> Iterator[Line]:
    """A line a method; each round is a step."""
    for method in METHODS:
        trainer, ours = ours_step(method, setup.data)
        plain = plain_step(method, Plain(trainer.network), trainer.training.images[:50], trainer.training.labels[:50])
        ours(), plain()
        _, (quick, slow) = in_turns(5 * setup.rounds, ours, plain)
        yield line(
            f"{method}, 50 images, {STEPS} inner steps", "plain autograd", quick, slow, "not compared: random starts"
        )
