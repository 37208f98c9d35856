"""Selection and order of results, their labels and their accuracies."""

import numpy as np
import pytest
from pgd_results import MNIST_EPS, make_cifar_result, make_pgd_result

from irpipe.errors import IrpipeError
from irpipe.results.accuracy import accuracy
from irpipe.results.labels import counted, eps_label
from irpipe.results.select import select_attack


@pytest.mark.parametrize(
    ("eps", "label"),
    [
        (0, "0"),
        (2 / 255, "2/255"),
        (8 / 255, "8/255"),
        (0.05, "0.05"),
        (0.2, "0.2"),
        (0.3, "0.3"),
        (0.003, "0.003"),
    ],
)
def test_eps_is_written_as_people_write_it(eps: float, label: str) -> None:
    assert eps_label(eps) == eps_label(float(np.float32(eps))) == label


def test_a_count_has_its_noun_in_the_right_number() -> None:
    assert [counted(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert [counted(n, "leaf", "leaves") for n in (1, 2)] == ["1 leaf", "2 leaves"]


def test_accuracy_counts_images() -> None:
    result = make_pgd_result(lambda eps, steps: 0.79 if steps == 200 else 0.5, MNIST_EPS)
    measured = accuracy(result, 0.3, 200)
    assert measured is not None
    assert (measured.value, measured.n) == (0.79, 200)
    assert (round(measured.low, 4), round(measured.high, 4)) == (0.7284, 0.8407)


def test_accuracy_is_none_where_a_result_was_not_evaluated() -> None:
    result = make_pgd_result([1.0], [0.3])
    assert accuracy(result, 0.25, 200) is None
    assert accuracy(result, 0.3, 50) is None


def test_results_come_in_the_order_of_the_paper() -> None:
    results = [
        make_pgd_result([1.0], [0.3], method=method, run=run)
        for method in ("mine", "int", "adv")
        for run in ("seed10", "seed2", "released")
    ]
    results.insert(0, make_cifar_result([1.0] * 5, "pool", "int"))
    groups = select_attack(results, "pgd", "table_3")
    assert list(groups) == [("mnist", "small"), ("cifar10", "pool")]
    networks = [
        (result.attrs["method"], result.attrs["run"]) for result in groups["mnist", "small"]
    ]
    assert networks == [
        (method, run)
        for method in ("adv", "int", "mine")
        for run in ("released", "seed2", "seed10")
    ]


def test_only_the_option_that_differs_is_named() -> None:
    options = {"steps": [1, 10], "step_size": 0.01, "random_start": False}
    results = [
        make_pgd_result([1.0], [0.3], method="int", options=options),
        make_pgd_result([1.0], [0.3], method="adv", options=options | {"step_size": 0.02}),
    ]
    message = (
        r"^t: mnist/small/int/\S+/pgd is from options step_size: 0\.01, "
        r"but mnist/small/adv/\S+/pgd is from options step_size: 0\.02; "
        r"evaluate both again with the same options$"
    )
    with pytest.raises(IrpipeError, match=message):
        select_attack(results, "pgd", "t")


@pytest.mark.parametrize(("key", "noun"), [("network_sha256", "network"), ("data_sha256", "data")])
def test_results_of_two_networks_of_one_name_are_refused(key: str, noun: str) -> None:
    """As when weights change, and only some of the attacks are repeated."""
    results = [
        make_pgd_result([1.0], [0.3]),
        make_pgd_result([1.0], [0.3], attack="other", **{key: "01d"}),
    ]
    message = (
        rf"^t: mnist/small/int/released/pgd and mnist/small/int/released/other differ in the "
        rf"SHA-256 of the {noun}; one of them is older: evaluate it again, or leave it out$"
    )
    with pytest.raises(IrpipeError, match=message):
        select_attack(results, "pgd", "t")
