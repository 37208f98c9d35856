"""Whether one method beats another by more than chance: paired tests on the same images."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import METHODS, values
from irpipe.quantities import Count
from irpipe.reports.parts.paired import Difference, compare, right, same_images
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, Pair, eps_label, network, pair_of, select
from irpipe.stats import crossed, holm

STATED = (("int", "adv"), ("int", "ig_norm"), ("int", "int_one_class"))  # paper, on Tables 3 and 4
LEGEND = (
    "Accuracy of the first method minus that of the second on the same attacked images, with its 95% Wald interval; "
    "behind the slash, the images that only the first and only the second has right; p: McNemar's exact test, by "
    "Holm's method over the whole table, in parentheses for this cell alone. *: p (Holm) < 0.05. Of several seeds: the "
    "mean difference, with a 95% bootstrap interval over seeds and images alike."
)


class Test(NamedTuple):
    """One method against another at one radius."""

    first: Result
    second: Result
    eps: float
    found: Difference


class Seeds(NamedTuple):
    """The same over several seeds: mean difference, with its interval over seeds and images."""

    first: Result
    second: Result
    eps: float
    seeds: int
    value: float
    low: float
    high: float


def report(results: list[Result], output: Path, *, title: str, attack: str = "pgd", steps: Count = 200) -> list[Path]:
    """Write Int against Adv, IG-Norm and Int-1-class as `output`.csv, .md, .tex and .html; return the four paths.

    At the radii of Table 3, for every data set, model and run that has both methods; where several seeds have, also
    for their mean. Raises IrpipeError as `selection.select` does, if two results are of other images or lack a radius,
    and if no network has both.
    """
    tests: list[Test] = []
    for members in select(results, attack, output.name, (*ACCURACY, "index")).values():
        by = {(result.attrs["method"], result.attrs["run"]): result for result in members}
        for run, (one, other) in product(dict.fromkeys(run for _, run in by), STATED):
            if (one, run) in by and (other, run) in by:
                first, second = by[one, run], by[other, run]
                same_images(first, second, output.name)
                for eps in _radii(first):
                    tests.append(Test(first, second, eps, compare(first, second, eps, steps, output.name)))
    if not tests:
        raise IrpipeError(f"{output.name}: no network has both methods of {' or '.join(map(' and '.join, STATED))}")
    adjusted = holm([test.found.p for test in tests])
    records = [_record(output.name, test, steps, p) for test, p in zip(tests, adjusted, strict=True)]
    means = _over_seeds(tests, steps, output.name)
    records += [_seeds_record(output.name, mean, steps) for mean in means]
    grouped: dict[Pair, list[tuple[Test, float]]] = {}
    for test, p in zip(tests, adjusted, strict=True):
        grouped.setdefault(pair_of(test.first), []).append((test, p))
    blocks = [
        _block(pair, cells, [mean for mean in means if pair_of(mean.first) == pair], steps)
        for pair, cells in grouped.items()
    ]
    return write(output, Page(title, blocks, LEGEND), records)


def _over_seeds(tests: list[Test], steps: int, report: str) -> list[Seeds]:
    """One entry for each two methods and radius that several seeds have."""
    together: dict[tuple[str, ...], list[Test]] = {}
    for test in tests:
        if test.first.attrs["run"] != "released":
            methods = (test.first.attrs["method"], test.second.attrs["method"])
            together.setdefault((*pair_of(test.first), *methods, f"{test.eps:.6f}"), []).append(test)
    found = []
    for same in together.values():
        if len(same) > 1:
            first, second, eps, _ = same[0]
            for other in same:
                same_images(first, other.first, report)
            both = [[right(one, eps, steps, report) for one in (test.first, test.second)] for test in same]
            apart = np.array([ours.astype(float) - theirs for ours, theirs in both])
            found.append(Seeds(first, second, eps, len(same), float(apart.mean()), *crossed(apart)))
    return found


def _radii(result: Result) -> list[float]:
    """Radii of Table 3 for a data set; for one that it does not have, the result's own."""
    printed = {cell.eps for cell in values("3") if cell.dataset == result.attrs["dataset"]}
    return sorted({eps for eps in printed if eps is not None} or {float(eps) for eps in result.arrays["eps"]})


def _block(pair: Pair, cells: list[tuple[Test, float]], means: list[Seeds], steps: int) -> Block:
    """A row for each two methods of a run, and for the mean over seeds; a column for each radius."""
    rows: dict[str, list[Entry]] = {}
    for test, p in cells:
        run = "" if test.first.attrs["run"] == "released" else f" ({test.first.attrs['run']})"
        label = f"{_methods(test)}{run}"
        rows.setdefault(label, [Entry(label)]).append(_entry(test.found, p))
    for mean in means:
        label = f"{_methods(mean)} (mean of {mean.seeds} seeds)"
        entry = Entry(f"{mean.value:+.3f}", below=f"[{mean.low:+.2f}, {mean.high:+.2f}]")
        rows.setdefault(label, [Entry(label)]).append(entry)
    radii = list(dict.fromkeys(f"ε = {eps_label(test.eps)}" for test, _ in cells))
    heading = f"{network(pair)}, {steps} steps, n = {cells[0][0].found.n}"
    return Block(heading, ["Methods", *radii], list(rows.values()))


def _methods(shown: Test | Seeds) -> str:
    names = [str(result.attrs["method"]) for result in (shown.first, shown.second)]
    return " against ".join(METHODS.get(name, name) for name in names)


def _entry(found: Difference, p: float) -> Entry:
    below = f"[{found.low:+.2f}, {found.high:+.2f}] / {found.only_first}:{found.only_second}, p = {p:.2g}"
    return Entry(f"{found.value:+.3f}", f"({found.p:.2g})", below, "*" if p < 0.05 else "")


def _record(table: str, test: Test, steps: int, p: float) -> dict[str, object]:
    found, first, second = test.found, test.first.attrs, test.second.attrs
    return {
        **_shared(table, test, steps, (found.value, found.low, found.high)),
        "n": found.n,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p": f"{found.p:.6g}",
        "p_holm": f"{p:.6g}",
        "first_sha256": first["network_sha256"],
        "second_sha256": second["network_sha256"],
        "code": first["code"],
    }


def _seeds_record(table: str, mean: Seeds, steps: int) -> dict[str, object]:
    """With `n`, the images of each seed, and without tests, which are of one network each."""
    shared = _shared(table, mean, steps, (mean.value, mean.low, mean.high))
    lacking = dict.fromkeys(("only_first", "only_second", "p", "p_holm", "first_sha256", "second_sha256"), "")
    more = {"run": f"mean of {mean.seeds}", "n": len(mean.first.arrays["index"]), "code": mean.first.attrs["code"]}
    return {**shared, **lacking, **more}


def _shared(table: str, shown: Test | Seeds, steps: int, numbers: tuple[float, float, float]) -> dict[str, object]:
    first = shown.first.attrs
    return {
        "table": table,
        **{key: first[key] for key in ("dataset", "model", "run", "attack")},
        "first": first["method"],
        "second": shown.second.attrs["method"],
        "eps": eps_label(shown.eps),
        "steps": steps,
        **{key: round(value, 6) for key, value in zip(("difference", "low", "high"), numbers, strict=True)},
    }
