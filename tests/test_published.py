"""The released networks give the published numbers: the bars of the PGD tables (protocol C.0)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from irpipe import config
from irpipe.evaluate import evaluate
from irpipe.hardware import device
from irpipe.io import Result, write_checkpoint
from irpipe.published import Cell, values
from irpipe.released import convert

ALL = ["normal", "adv", "trades", "ig_norm", "ig_sum_norm", "int_one_class", "int", "int_adv"]
WRESNET = ["normal", "adv", "trades", "int_one_class", "int", "int_adv"]
FILES = {
    (entry["dataset"], entry["model"], method): file
    for entry in config.check(config.read(config.SHIPPED / "released.yaml"))["networks"]
    for method, file in entry["released"].items()
}

Evaluated = Callable[[str, str, str, dict[str, object]], Result]


@pytest.fixture(scope="module")
def evaluated(shared: Path, cifar_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Evaluate a released network by PGD with the given options."""
    roots = {"mnist": shared / "datasets", "cifar10": cifar_root}

    def run(dataset: str, model: str, method: str, options: dict[str, object]) -> Result:
        path = tmp_path_factory.mktemp("released") / "network.safetensors"
        file = shared / "released" / "networks" / FILES[dataset, model, method]
        write_checkpoint(path, convert(file, dataset, {"kind": dataset}, model, method))
        spec = config.resolved("attacks", {"kind": "pgd", **options}, "test")
        return evaluate(path, "pgd", spec, roots[dataset], device("cpu"), "test")

    return run


def differences(result: Result, table: str) -> list[float]:
    """Ours minus published for every cell of a table that this result holds; fails if it holds none."""
    key = tuple(result.attrs[name] for name in ("dataset", "model", "method"))
    accuracy = result.arrays["correct"].mean(axis=0)
    found = []
    for cell, printed in values(table).items():
        if Cell(*key, *cell[3:]) == cell and cell.steps in result.arrays["steps"]:
            radius = np.flatnonzero(np.isclose(result.arrays["eps"], cell.eps or 0.0, rtol=0, atol=1e-9))
            if len(radius):
                step = list(result.arrays["steps"]).index(cell.steps)
                found.append(float(accuracy[radius[0], step]) - printed.value)
    assert found, f"no cell of table {table} for {key}"
    return found


def exact(found: list[float], count: int) -> None:
    assert len(found) == count
    assert np.abs(found).max() < 1e-9


@pytest.mark.parametrize("method", ALL)
def test_mnist_small_is_exact(evaluated: Evaluated, method: str) -> None:
    result = evaluated("mnist", "small", method, {})
    exact(differences(result, "3"), 5)
    exact(differences(result, "4"), 4)


@pytest.mark.parametrize("method", ALL)
def test_cifar_small_is_exact_under_the_corrected_labels(evaluated: Evaluated, method: str) -> None:
    result = evaluated("cifar10", "small", method, {})
    for table in ("A1", "A2", "A3"):
        exact(differences(result, table), 5)


@pytest.mark.parametrize("method", ALL)
def test_mnist_pool_after_ten_steps_is_within_one_image(evaluated: Evaluated, method: str) -> None:
    found = differences(evaluated("mnist", "pool", method, {"steps": 10}), "A3")
    assert len(found) == 5
    assert np.abs(found).max() < 0.005 + 1e-9


def test_mnist_pool_after_all_steps_is_within_one_image(evaluated: Evaluated) -> None:
    """One network of eight, for time; docs/reproduction.md has all cells, and the three that are further off."""
    result = evaluated("mnist", "pool", "adv", {"eps": [0, 0.3], "steps": [100, 200]})
    assert np.abs(differences(result, "A1") + differences(result, "A2")).max() < 0.005 + 1e-9


@pytest.mark.parametrize("method", WRESNET)
def test_wresnet_after_few_steps(evaluated: Evaluated, method: str) -> None:
    """Table 4's first two columns; Normal after 10 steps lies furthest off (C.0: .055 against .075)."""
    found = differences(evaluated("cifar10", "wresnet", method, {"eps": "8/255", "steps": [1, 10]}), "4")
    assert len(found) == 2
    assert np.abs(found).max() < 0.025
