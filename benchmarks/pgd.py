"""PGD of Tables 3 and 4: all radii at all step counts, against libraries that run each of the 16 by itself.

irpipe runs the radii together, takes all step counts from one trajectory, folds the head, leaves trajectories that
repeat, and chooses the layout of the layers; for Int on MNIST Small the other side is also given that layout. Its time
includes reading the network and the data.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchattacks
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import Line, Setup, in_turns, line
from benchmarks.plain import Plain
from irpipe import config
from irpipe.data import dataset, load
from irpipe.evaluate import evaluate, load_network
from irpipe.hardware import device
from irpipe.io import read_checkpoint

STEPS, STEP_SIZE = [1, 10, 100, 200], 0.01
NETWORKS = (  # data set, model, method, images
    *(("mnist", "small", method, 200) for method in ("int", "adv", "trades", "normal")),
    ("cifar10", "small", "int", 200),
    ("mnist", "pool", "int", 50),
    ("cifar10", "wresnet", "int", 10),
)
Attack = Callable[[Plain, Tensor, Tensor, float, int], Tensor]


def ours(path: Path, data: Path, images: int) -> np.ndarray:
    """Accuracies `[E, S]` by irpipe, at the data set's radii but 0."""
    radii = list(dataset(read_checkpoint(path).metadata["data"]["kind"]).RADII)[1:]
    spec = config.resolved("attacks", {"kind": "pgd", "eps": radii, "steps": STEPS, "images": images}, "benchmark")
    return np.asarray(evaluate(path, "pgd", spec, data, device("cpu"), "benchmark").arrays["correct"].mean(axis=0))


def theirs(path: Path, data: Path, images: int, attack: Attack) -> np.ndarray:
    """Accuracies `[E, S]` by one run of `attack` for each."""
    checkpoint = read_checkpoint(path)
    about, network = checkpoint.metadata["data"], Plain(load_network(checkpoint, path)).requires_grad_(False).eval()
    test = load(about, data, "test")
    index = np.random.RandomState(99).permutation(len(test))[:images]
    chosen, labels = test.images[index].float(), test.labels[index]
    right = [
        [(network(attack(network, chosen, labels, radius, steps)).argmax(dim=1) == labels).double().mean().item()]
        for radius in dataset(about["kind"]).RADII[1:]
        for steps in STEPS
    ]
    return np.array(right).reshape(-1, len(STEPS))


def by_torchattacks(network: Plain, images: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """torchattacks.PGD without its random start."""
    attack = torchattacks.PGD(network, eps=radius, alpha=STEP_SIZE, steps=steps, random_start=False)
    moved: Tensor = attack(images, labels)
    return moved


def in_layout(network: Plain, images: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """torchattacks on the same network with channels last in memory."""
    return by_torchattacks(network.to(memory_format=torch.channels_last), images, labels, radius, steps)  # type: ignore[call-overload]  # torch's stub


def by_foolbox(network: Plain, images: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """foolbox's l-inf PGD, with the same fixed step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports a deprecated part of scipy
        import foolbox
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(
        rel_stepsize=None, abs_stepsize=STEP_SIZE, steps=steps, random_start=False
    )
    bounded = foolbox.PyTorchModel(network, bounds=(0, 1))
    moved: Tensor = attack.run(bounded, images, foolbox.criteria.Misclassification(labels), epsilon=radius)
    return moved


def by_port(network: Plain, images: Tensor, labels: Tensor, radius: float, steps: int) -> Tensor:
    """The released evaluation's loop, protocol C.4, line by line in torch."""
    moved = images
    for _ in range(steps):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(moved), labels), moved)
        moved = torch.clamp(moved + STEP_SIZE * gradient.sign(), images - radius, images + radius).clamp(0, 1)
    return moved.detach()


def lines(setup: Setup) -> Iterator[Line]:
    """A line a network for torchattacks, and for Int on MNIST Small the other libraries too."""
    others: dict[str, Attack] = {
        "torchattacks": by_torchattacks,
        "torchattacks, channels last": in_layout,
        "foolbox": by_foolbox,
        "released loop": by_port,
    }
    for place, (data, model, method, images) in enumerate(NETWORKS):
        path = setup.checkpoint(data, model, method)
        ours(path, setup.data, 2)  # the first call reads code and data into memory
        for other, attack in others.items() if place == 0 else [("torchattacks", by_torchattacks)]:
            (own, found), (quick, slow) = in_turns(
                setup.rounds,
                partial(ours, path, setup.data, images),
                partial(theirs, path, setup.data, images, attack),
            )
            equal = int((np.abs(own - found) < 0.5 / images).sum())
            yield line(
                f"PGD, {data} {model} {method}, {images} images", other, quick, slow, f"{equal} of {own.size} cells"
            )
