"""The table shows how much more accurate one method is than another, and whether that can be
chance. All tests are on the same images.
"""

from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from irpipe.analysis.paired import Difference, compare_results, require_correct, require_same_images
from irpipe.errors import IrpipeError
from irpipe.option_types import Count, MethodPairs
from irpipe.published import METHODS, published_table
from irpipe.reports._cells import Record
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.labels import (
    DatasetModel,
    counted,
    dataset_model,
    dataset_model_label,
    eps_label,
)
from irpipe.results.result import Result
from irpipe.results.select import ACCURACY_ARRAYS, select_attack
from irpipe.statistics import holm, two_way_bootstrap

LEGEND = (
    "Each cell shows the accuracy of the first method minus that of the second on the same "
    "test images under attack, with the 95% interval of Agresti and Min. After the slash it counts "
    "the images that only the first and only the second method classifies correctly. p is from "
    "McNemar's exact test, corrected by Holm's method over all cells of the table; uncorrected in "
    "parentheses. * marks a corrected p < 0.05. A row over several seeds shows the mean "
    "difference, with a 95% bootstrap interval over seeds and images, which is too narrow for few "
    "seeds."
)


class PairedTest(NamedTuple):
    """Two networks at one eps. `p_holm` is corrected over all tests of the table."""

    first: Result
    second: Result
    eps: float
    difference: Difference
    p_holm: float

    @property
    def label(self) -> str:
        """The methods, the models if they differ and, for a trained network, its run."""
        run = _both("run", self.first, self.second)
        return _networks_label(self.first, self.second, "" if run == "released" else run)


class SeedsMean(NamedTuple):
    """Two methods at one eps over `n_seeds` seeds: mean difference with its interval.

    `first` and `second` are the results of one seed.
    """

    first: Result
    second: Result
    eps: float
    n_seeds: int
    value: float
    low: float
    high: float

    @property
    def label(self) -> str:
        """The methods, the models if they differ, and the number of seeds."""
        return _networks_label(self.first, self.second, f"mean of {self.n_seeds} seeds")


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    steps: Count = 200,
    # First and second method of each comparison; the paper compares these by Tables 3 and 4.
    pairs: MethodPairs = [  # noqa: B006
        ["int", "adv"],
        ["int", "ig_norm"],
        ["int", "int_one_class"],
    ],
) -> list[Path]:
    """Write one table per data set and model; return the paths of its files.

    A row compares two methods of one model and run, or their mean over seeds. A network made
    elsewhere is compared with those of all models and runs. The columns are the eps of Table 3.

    Raises IrpipeError as `select_attack` does, if two results are of other images or lack an eps,
    and if there is no network of both methods.
    """
    comparisons = [
        (first, second, eps, compare_results(first, second, eps, steps, output.name))
        for first, second in _compared_results(results, attack, pairs, output.name)
        for eps in _eps_values(first)
    ]
    if not comparisons:
        names = " or ".join(" and ".join(methods) for methods in pairs)
        raise IrpipeError(f"{output.name}: no network has both methods of {names}")
    p_holm = holm([difference.p for *_, difference in comparisons])
    tests = [PairedTest(*comparison, p) for comparison, p in zip(comparisons, p_holm, strict=True)]
    means = _means_over_seeds(tests, steps, output.name)
    subtables = []
    for pair in dict.fromkeys(dataset_model(test.first) for test in tests):
        pair_tests = [test for test in tests if dataset_model(test.first) == pair]
        pair_means = [mean for mean in means if dataset_model(mean.first) == pair]
        subtables.append(_subtable(pair, pair_tests, pair_means, steps))
    records = [_test_record(output.name, test, steps) for test in tests]
    records += [_mean_record(output.name, mean, steps) for mean in means]
    return write(output, TablePage(title, subtables, LEGEND), pd.DataFrame(records, dtype=object))


def _compared_results(
    results: list[Result], attack: str, pairs: Sequence[Sequence[str]], report: str
) -> list[tuple[Result, Result]]:
    """The results of the `pairs` of methods that can be compared, by data set."""
    compared = []
    arrays = (*ACCURACY_ARRAYS, "indices")
    groups = list(select_attack(results, attack, report, arrays).values())
    for group in groups:
        by_network = {(result.attrs["method"], result.attrs["run"]): result for result in group}
        runs = dict.fromkeys(run for _, run in by_network)
        for run, (first_method, second_method) in product(runs, pairs):
            first = by_network.get((first_method, run))
            for second in chain(*groups):
                is_second = second.attrs["method"] == second_method
                if first and is_second and _are_comparable(first, second):
                    require_same_images(first, second, report)
                    compared.append((first, second))
    return compared


def _are_comparable(first: Result, second: Result) -> bool:
    """Whether two networks have one model and run, or one of them was made elsewhere."""
    if first.attrs["dataset"] != second.attrs["dataset"]:
        return False
    is_external = "external" in (first.attrs["run"], second.attrs["run"])
    return is_external or _model_run(first) == _model_run(second)


def _model_run(result: Result) -> tuple[str, str]:
    return result.attrs["model"], result.attrs["run"]


def _eps_values(result: Result) -> list[float]:
    """The eps of Table 3 for a data set or, if the table does not have it, the result's own."""
    published = {
        key.eps
        for key in published_table("3")
        if key.dataset == result.attrs["dataset"] and key.eps is not None
    }
    return sorted(published or {float(eps) for eps in result.arrays["eps"]})


def _means_over_seeds(tests: list[PairedTest], steps: int, report: str) -> list[SeedsMean]:
    """One mean for each pair of methods and eps that several seeds have."""
    by_seeds: dict[tuple[str, ...], list[PairedTest]] = {}
    for test in tests:
        networks = (test.first, test.second)
        if all(result.attrs["run"] != "released" for result in networks):
            methods = [result.attrs["method"] for result in networks]
            key = (*chain(*map(dataset_model, networks)), *methods, f"{test.eps:.6f}")
            by_seeds.setdefault(key, []).append(test)
    means = []
    for seed_tests in by_seeds.values():
        if len(seed_tests) < 2:
            continue
        first, second, eps, *_ = seed_tests[0]
        differences = []
        for test in seed_tests:
            require_same_images(first, test.first, report)
            first_correct = require_correct(test.first, eps, steps, report)
            second_correct = require_correct(test.second, eps, steps, report)
            differences.append(first_correct.astype(float) - second_correct)
        values = np.array(differences)  # [seeds, N]
        interval = two_way_bootstrap(values)
        means.append(
            SeedsMean(first, second, eps, len(seed_tests), float(values.mean()), *interval)
        )
    return means


def _subtable(
    pair: DatasetModel, tests: list[PairedTest], means: list[SeedsMean], steps: int
) -> SubTable:
    rows: dict[str, list[CellText]] = {}
    for test in tests:
        rows.setdefault(test.label, [CellText(test.label)]).append(_test_text(test))
    for mean in means:
        text = CellText(f"{mean.value:+z.3f}", second_line=f"[{mean.low:+z.2f}, {mean.high:+z.2f}]")
        rows.setdefault(mean.label, [CellText(mean.label)]).append(text)
    titles = dict.fromkeys(f"ε = {eps_label(test.eps)}" for test in tests)
    heading = f"{dataset_model_label(pair)}, {counted(steps, 'step')}, n = {tests[0].difference.n}"
    return SubTable(heading, ["Methods", *titles], list(rows.values()))


def _both(key: str, first: Result, second: Result) -> str:
    """An attribute of both networks, such as "own against small"; once if it is the same."""
    return " against ".join(dict.fromkeys(str(result.attrs[key]) for result in (first, second)))


def _networks_label(first: Result, second: Result, runs: str) -> str:
    """The methods and, in parentheses, the models if they differ, and `runs`."""
    methods = [str(result.attrs["method"]) for result in (first, second)]
    label = " against ".join(METHODS.get(method, method) for method in methods)
    differ = first.attrs["model"] != second.attrs["model"]
    parts = [_both("model", first, second)] * differ + [runs] * bool(runs)
    return f"{label} ({', '.join(parts)})" if parts else label


def _test_text(test: PairedTest) -> CellText:
    value, low, high, _, only_first, only_second, p = test.difference
    second_line = f"[{low:+z.2f}, {high:+z.2f}] / {only_first}:{only_second}, p = {test.p_holm:.2g}"
    mark = "*" if test.p_holm < 0.05 else ""
    return CellText(f"{value:+z.3f}", f"({p:.2g})", second_line, mark)


def _test_record(table: str, test: PairedTest, steps: int) -> Record:
    difference = test.difference
    return {
        **_common_columns(table, test, steps),
        "difference": round(difference.value, 6),
        "low": round(difference.low, 6),
        "high": round(difference.high, 6),
        "n": difference.n,
        "only_first": difference.only_first,
        "only_second": difference.only_second,
        "p": _six_digits(difference.p),
        "p_holm": _six_digits(test.p_holm),
        "first_sha256": test.first.attrs["network_sha256"],
        "second_sha256": test.second.attrs["network_sha256"],
        "code_hash": test.first.attrs["code_hash"],
    }


def _mean_record(table: str, mean: SeedsMean, steps: int) -> Record:
    """The record of a mean over seeds. It has no test; a test is of one network per method."""
    return {
        **_common_columns(table, mean, steps),
        "run": f"mean of {mean.n_seeds}",
        "difference": round(mean.value, 6),
        "low": round(mean.low, 6),
        "high": round(mean.high, 6),
        "n": len(mean.first.arrays["indices"]),
        **dict.fromkeys(("only_first", "only_second", "p", "p_holm")),
        "first_sha256": "",
        "second_sha256": "",
        "code_hash": mean.first.attrs["code_hash"],
    }


def _common_columns(table: str, row: PairedTest | SeedsMean, steps: int) -> Record:
    attrs = row.first.attrs
    return {
        "table": table,
        **{key: _both(key, row.first, row.second) for key in ("dataset", "model", "run", "attack")},
        "first": attrs["method"],
        "second": row.second.attrs["method"],
        "eps": eps_label(row.eps),
        "steps": steps,
    }


def _six_digits(p: float) -> float | int:
    """A p-value with six significant digits; 1 is an int, so that it stays "1" in CSV."""
    rounded = float(f"{p:.6g}")
    return 1 if rounded == 1 else rounded
