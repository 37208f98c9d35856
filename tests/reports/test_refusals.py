"""What all reports do: refuse results that do not belong together, and write equal bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pgd_results import MNIST_EPS, make_cifar_result, make_pgd_result

from irpipe.errors import IrpipeError
from irpipe.reports import accuracy_curve, accuracy_table, errata_table
from irpipe.results.result import Result

REPORTS: dict[str, Callable[..., list[Path]]] = {
    "accuracy_table": accuracy_table.report,
    "errata_table": errata_table.report,
    "accuracy_curve": accuracy_curve.report,
}
RESULT = make_pgd_result([0.8] * 6, MNIST_EPS)
OTHER_CODE = make_pgd_result([0.8] * 6, MNIST_EPS, method="adv", code_hash="5a5a")
REFUSED = {
    r"out: two results of mnist/small/int/released/pgd": [RESULT, RESULT],
    r"out: mnist/small/int/released/pgd is from code c0de, "
    r"but mnist/small/adv/released/pgd is from code 5a5a; evaluate": [RESULT, OTHER_CODE],
    r"out: expected results of attack 'pgd'; found aai": [
        make_pgd_result([0.8] * 6, MNIST_EPS, attack="aai")
    ],
    r"out: expected results of attack 'pgd'; found no results": [],
    r"out: mnist/small/int/released/pgd is of kind 'mine'": [
        Result(RESULT.attrs | {"kind": "mine"}, {})
    ],
}


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("message", REFUSED)
def test_results_that_do_not_belong_together_are_refused(
    kind: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(IrpipeError, match=message):
        REPORTS[kind](REFUSED[message], tmp_path / "out", title="Title")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", REPORTS)
def test_equal_results_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    results = [
        make_pgd_result([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], MNIST_EPS, method=method)
        for method in ("int", "mine")
    ]
    results += [
        make_cifar_result([0.7, 0.6, 0.5, 0.4, 0.3], "small", "adv", run=run)
        for run in ("released", "seed0")
    ]
    first = REPORTS[kind](results, tmp_path / "a" / "out", title="T")
    second = REPORTS[kind](results[::-1], tmp_path / "b" / "out", title="T")
    names = [path.name for path in first]
    assert names == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(names)
