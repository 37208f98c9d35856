"""PGD of Tables 3 and 4, at all eps and step counts, against libraries that run each of the 16.

irpipe attacks at all eps together, takes all step counts from one trajectory, folds the head,
leaves trajectories that repeat, and chooses the layout of the layers in memory. For Int on MNIST
Small, the other side also gets that layout. irpipe's time includes reading network and data.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchattacks
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import Row, Setup, comparison, time_in_turns
from benchmarks.plain import PlainNetwork
from irpipe import config
from irpipe.datasets import facts, load
from irpipe.evaluation import evaluate_checkpoint
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.networks.load import load_network

STEPS = [1, 10, 100, 200]
STEP_SIZE = 0.01
SEED = 99  # of the permutation that chooses the test images (C.4)
NETWORKS = (  # data set, model, method, number of images
    ("mnist", "small", "int", 200),
    ("mnist", "small", "adv", 200),
    ("mnist", "small", "trades", 200),
    ("mnist", "small", "normal", 200),
    ("cifar10", "small", "int", 200),
    ("mnist", "pool", "int", 50),
    ("cifar10", "wresnet", "int", 10),
)
# network, images, labels, eps, step count -> adversarial images
Attack = Callable[[PlainNetwork, Tensor, Tensor, float, int], Tensor]


def irpipe_accuracies(
    path: Path, data: Path, n_images: int, device: torch.device, steps: Sequence[int] = STEPS
) -> np.ndarray:
    """Return the accuracies `[E, S]` by irpipe at the data set's eps except 0."""
    eps = facts(read_checkpoint(path).metadata["data"]).eval_eps[1:]
    entry = {"kind": "pgd", "eps": list(eps), "steps": list(steps), "images": n_images}
    options = config.resolve_named("attacks", entry | {"seed": SEED}, "benchmark")
    result = evaluate_checkpoint(path, "pgd", options, data, device, "benchmark")
    return np.asarray(result.arrays["correct"].mean(axis=0))


def other_accuracies(
    path: Path,
    data: Path,
    n_images: int,
    attack: Attack,
    device: torch.device,
    steps: Sequence[int] = STEPS,
) -> np.ndarray:
    """Return the accuracies `[E, S]` on the same images by one run of `attack` for each."""
    checkpoint = read_checkpoint(path)
    options = checkpoint.metadata["data"]
    network = PlainNetwork(load_network(checkpoint, path)).requires_grad_(False).eval().to(device)
    test = load(options, data, "test")
    indices = np.random.RandomState(SEED).permutation(len(test))[:n_images]
    images, labels = test.images[indices].float().to(device), test.labels[indices].to(device)

    def accuracy(eps: float, count: int) -> float:
        adversarial = attack(network, images, labels, eps, count)
        is_correct = network(adversarial).argmax(dim=1) == labels
        return float(is_correct.double().mean())

    all_eps = facts(options).eval_eps[1:]
    return np.array([[accuracy(eps, count) for count in steps] for eps in all_eps])


def torchattacks_pgd(
    network: PlainNetwork, images: Tensor, labels: Tensor, eps: float, steps: int
) -> Tensor:
    """Run torchattacks.PGD without its random start."""
    attack = torchattacks.PGD(network, eps=eps, alpha=STEP_SIZE, steps=steps, random_start=False)
    adversarial: Tensor = attack(images, labels)
    return adversarial


def torchattacks_pgd_channels_last(
    network: PlainNetwork, images: Tensor, labels: Tensor, eps: float, steps: int
) -> Tensor:
    """Run torchattacks on the same network with channels last in memory."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return torchattacks_pgd(network, images, labels, eps, steps)


def foolbox_pgd(
    network: PlainNetwork, images: Tensor, labels: Tensor, eps: float, steps: int
) -> Tensor:
    """Run foolbox's l-inf PGD with the same fixed step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It imports a deprecated part of scipy.
        import foolbox
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        rel_stepsize=None, abs_stepsize=STEP_SIZE, steps=steps, random_start=False
    )
    bounded_network = foolbox.PyTorchModel(network, bounds=(0, 1))
    criterion = foolbox.criteria.Misclassification(labels)
    adversarial: Tensor = attack.run(bounded_network, images, criterion, epsilon=eps)
    return adversarial


def released_pgd(
    network: PlainNetwork, images: Tensor, labels: Tensor, eps: float, steps: int
) -> Tensor:
    """Run the loop of the released evaluation, line by line in torch (C.4)."""
    adversarial = images
    for _ in range(steps):
        adversarial = adversarial.detach().requires_grad_()
        loss = F.cross_entropy(network(adversarial), labels)
        (gradient,) = torch.autograd.grad(loss, adversarial)
        step = adversarial + STEP_SIZE * gradient.sign()
        adversarial = torch.clamp(step, images - eps, images + eps).clamp(0, 1)
    return adversarial.detach()


ATTACKS: dict[str, Attack] = {
    "torchattacks": torchattacks_pgd,
    "torchattacks, channels last": torchattacks_pgd_channels_last,
    "foolbox": foolbox_pgd,
    "released loop": released_pgd,
}


def compare(setup: Setup, dataset: str, model: str, method: str, n_images: int, other: str) -> Row:
    """Compare irpipe with an attack of ATTACKS on one network."""
    path = setup.checkpoint(dataset, model, method)
    # The first call reads code and data into memory, so it is not timed.
    irpipe_accuracies(path, setup.data, 2, setup.device)
    (accuracies, expected), (seconds, other_seconds) = time_in_turns(
        setup.rounds,
        partial(irpipe_accuracies, path, setup.data, n_images, setup.device),
        partial(other_accuracies, path, setup.data, n_images, ATTACKS[other], setup.device),
    )
    n_equal = int((np.abs(accuracies - expected) < 0.5 / n_images).sum())
    work = f"PGD, {dataset} {model} {method}, {n_images} images"
    return comparison(work, other, seconds, other_seconds, f"{n_equal} of {accuracies.size} cells")


def rows(setup: Setup) -> Iterator[Row]:
    """Compare each network with torchattacks, and the first also with the other libraries."""
    for index, network in enumerate(NETWORKS):
        for other in ATTACKS if index == 0 else ["torchattacks"]:
            yield compare(setup, *network, other)
