"""Results of PGD whose accuracies are known, on the paper's data sets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from irpipe.results.result import Result

CIFAR_EPS = [0, 2 / 255, 4 / 255, 6 / 255, 8 / 255]
MNIST_EPS = [0, 0.05, 0.1, 0.2, 0.3, 0.35]
STEPS = [1, 10, 100, 200]

Accuracy = Sequence[float] | Callable[[float, int], float]


def make_pgd_result(accuracy: Accuracy, eps: list[float], n: int = 200, **attrs: object) -> Result:
    """A result on MNIST Small with these accuracies, by eps or as a function of eps and steps."""
    shape = (n, len(eps), len(STEPS))
    correct, linf_distance = np.zeros(shape, bool), np.zeros(shape)
    for e, eps_value in enumerate(eps):
        for s, steps in enumerate(STEPS):
            share = accuracy(eps_value, steps) if callable(accuracy) else accuracy[e]
            correct[: round(share * n), e, s] = True
            linf_distance[:, e, s] = min(eps_value, steps * 0.01)
    arrays = {
        "eps": np.array(eps),
        "steps": np.array(STEPS),
        "indices": np.arange(n),
        "label": np.zeros(n, int),
        "prediction": np.where(correct, 0, 1),
        "loss": np.zeros(shape),
        "correct": correct,
        "linf_distance": linf_distance,
    }
    default_attrs: dict[str, object] = {
        "dataset": "mnist",
        "model": "small",
        "method": "int",
        "run": "released",
        "attack": "pgd",
        "kind": "pgd",
        "code_hash": "c0de",
        "seed": 99,
        "network_sha256": "feed",
        "data_sha256": "beef",
        "train_eps": 0.3,
        "device": "cpu",
        "options": {
            "step_size": 0.01,
            "step_size_factor": None,
            "random_start": False,
            "grad_dtype": "float32",
        },
    }
    return Result(default_attrs | attrs, arrays)


def make_cifar_result(
    accuracy: Accuracy, model: str, method: str, run: str = "released", n: int = 200
) -> Result:
    """A result on CIFAR-10 with these accuracies."""
    attrs: dict[str, Any] = {"dataset": "cifar10", "model": model, "method": method, "run": run}
    return make_pgd_result(accuracy, CIFAR_EPS, n, **attrs, train_eps=8 / 255)
