"""A training step on MNIST Small, against the same recipe written with plain autograd.

Both take steps of the recipe `timing`: batches of 50 and 40 inner steps at the full eps. The
plain version follows the paper's equations: each of its 40 gradients passes through the complete
network, with all 100 channels of the last convolution.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import Row, Setup, comparison, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe import config
from irpipe.training.plan import TrainingPlan
from irpipe.training.trainer import Trainer

METHODS = ("adv", "trades", "ig_norm", "int_one_class", "int", "int_adv")
BATCH_SIZE = 50
INNER_STEPS = 40
INNER_STEP_SIZE = 0.01
EPS = 0.3
LR = 1e-4
REG_WEIGHT = 0.01
IG_STEPS = 5


def plain_loss(
    network: PlainNetwork, method: str, images: Tensor, labels: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return the method's loss (C.2) as a function of the perturbed images.

    What depends on the clean images alone is computed once.
    """
    if method == "adv":
        return lambda perturbed: F.cross_entropy(network(perturbed), labels)
    if method == "ig_norm":
        return lambda perturbed: plain_ig_norm(network, images, labels, perturbed)
    clean_maps, clean_logits = network.maps_and_logits(images)
    is_true = F.one_hot(labels, 10).bool()

    def trades(perturbed: Tensor) -> Tensor:
        log_q, p = F.log_softmax(network(perturbed), 1), F.softmax(clean_logits, 1)
        return F.cross_entropy(clean_logits, labels) + F.kl_div(log_q, p, reduction="batchmean")

    def interpretability_aware(perturbed: Tensor) -> Tensor:
        maps, logits = network.maps_and_logits(perturbed)
        distance = (maps - clean_maps).abs().sum(dim=(2, 3))
        discrepancy = distance[is_true]
        if method != "int_one_class":
            q = torch.softmax(logits.masked_fill(is_true, -torch.inf), dim=1)
            discrepancy = discrepancy + (q * distance).sum(dim=1)
        ce = F.cross_entropy(logits if method == "int_adv" else clean_logits, labels)
        return ce + REG_WEIGHT * discrepancy.mean()

    return trades if method == "trades" else interpretability_aware


def plain_ig_norm(
    network: PlainNetwork, images: Tensor, labels: Tensor, perturbed: Tensor
) -> Tensor:
    """Return the loss of IG-Norm (C.2), by double backward, one point of the path at a time."""
    change = perturbed - images
    total = torch.zeros_like(images)
    for k in range(1, IG_STEPS + 1):
        point = images + change * k / IG_STEPS
        if not point.requires_grad:
            point.requires_grad_()
        loss = F.cross_entropy(network(point), labels)
        total = total + torch.autograd.grad(loss, point, create_graph=True)[0]
    attributions = change * total / IG_STEPS
    norm = attributions.abs().sum(dim=(1, 2, 3)).mean()
    return F.cross_entropy(network(images), labels) + norm


def plain_step(
    method: str, network: PlainNetwork, images: Tensor, labels: Tensor
) -> Callable[[], object]:
    """Return a function that takes one training step of a plain network."""
    optimiser = torch.optim.Adam(network.parameters(), LR)
    lower, upper = images - EPS, images + EPS

    def step() -> None:
        with torch.no_grad():
            inner_loss = plain_loss(network, method, images, labels)
        perturbed = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(INNER_STEPS):
            perturbed = perturbed.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(inner_loss(perturbed), perturbed)
            perturbed = perturbed + INNER_STEP_SIZE * gradient.sign()
            perturbed = perturbed.clamp(lower, upper).clamp(0, 1)
        optimiser.zero_grad()
        loss = plain_loss(network, method, images, labels)(perturbed.detach())
        torch.autograd.backward(loss)
        optimiser.step()

    return step


def irpipe_step(
    method: str, data: Path, device: torch.device
) -> tuple[Trainer, Callable[[], object]]:
    """Return a trainer and a function that takes one of its steps."""
    dataset = config.lookup("datasets", "mnist", None)
    options = config.lookup("methods", method, None)
    recipe = config.lookup("recipes", "timing", None)
    plan = TrainingPlan("mnist", dataset, "small", method, options, recipe, 0, "benchmark")
    trainer = Trainer(plan, data, device)
    return trainer, trainer.step


def rows(setup: Setup) -> Iterator[Row]:
    """Yield one comparison per method; each side takes five steps per round."""
    for method in METHODS:
        trainer, take_irpipe_step = irpipe_step(method, setup.data, setup.device)
        images = trainer.training.images[:BATCH_SIZE].to(setup.device)
        labels = trainer.training.labels[:BATCH_SIZE].to(setup.device)
        take_plain_step = plain_step(method, PlainNetwork(trainer.network), images, labels)
        take_irpipe_step()  # not timed
        take_plain_step()
        steps = take_irpipe_step, take_plain_step
        _, (irpipe_seconds, plain_seconds) = time_in_turns(5 * setup.rounds, *steps)
        work = f"{method}, {BATCH_SIZE} images, {INNER_STEPS} inner steps"
        equal = "not compared: random starts"
        yield comparison(work, "plain autograd", irpipe_seconds, plain_seconds, equal)
