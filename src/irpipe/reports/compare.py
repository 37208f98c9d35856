"""Whether one method beats another by more than chance: paired tests on the same images."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import METHODS, values
from irpipe.quantities import Count
from irpipe.reports.parts.paired import Difference, compare, same_images
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, Pair, eps_label, network, pair_of, select
from irpipe.stats import holm

STATED = (("int", "adv"), ("int", "ig_norm"), ("int", "int_one_class"))  # paper, on Tables 3 and 4
LEGEND = (
    "Accuracy of the first method minus that of the second on the same attacked images, with its 95% Wald interval; "
    "behind the slash, the images that only the first and only the second has right; p: McNemar's exact test, by "
    "Holm's method over the whole table, in parentheses for this cell alone. *: p (Holm) < 0.05."
)


class Test(NamedTuple):
    """One method against another at one radius."""

    first: Result
    second: Result
    eps: float
    found: Difference


def report(results: list[Result], output: Path, *, title: str, attack: str = "pgd", steps: Count = 200) -> list[Path]:
    """Write Int against Adv, IG-Norm and Int-1-class as `output`.csv, .md, .tex and .html; return the four paths.

    At the radii of Table 3, for every data set, model and run that has both methods. Raises IrpipeError as
    `selection.select` does, if two results are of other images or lack a radius, and if no network has both.
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
    grouped: dict[Pair, list[tuple[Test, float]]] = {}
    for test, p in zip(tests, adjusted, strict=True):
        grouped.setdefault(pair_of(test.first), []).append((test, p))
    return write(output, Page(title, [_block(pair, cells, steps) for pair, cells in grouped.items()], LEGEND), records)


def _radii(result: Result) -> list[float]:
    """Radii of Table 3 for a data set; for one that it does not have, the result's own."""
    printed = {cell.eps for cell in values("3") if cell.dataset == result.attrs["dataset"]}
    return sorted({eps for eps in printed if eps is not None} or {float(eps) for eps in result.arrays["eps"]})


def _block(pair: Pair, cells: list[tuple[Test, float]], steps: int) -> Block:
    """A row for each two methods of a run, a column for each radius."""
    rows: dict[str, list[Entry]] = {}
    for test, p in cells:
        names = [METHODS[str(result.attrs["method"])] for result in (test.first, test.second)]
        run = "" if test.first.attrs["run"] == "released" else f" ({test.first.attrs['run']})"
        label = f"{names[0]} against {names[1]}{run}"
        rows.setdefault(label, [Entry(label)]).append(_entry(test.found, p))
    radii = list(dict.fromkeys(f"ε = {eps_label(test.eps)}" for test, _ in cells))
    heading = f"{network(pair)}, {steps} steps, n = {cells[0][0].found.n}"
    return Block(heading, ["Methods", *radii], list(rows.values()))


def _entry(found: Difference, p: float) -> Entry:
    below = f"[{found.low:+.2f}, {found.high:+.2f}] / {found.only_first}:{found.only_second}, p = {p:.2g}"
    return Entry(f"{found.value:+.3f}", f"({found.p:.2g})", below, "*" if p < 0.05 else "")


def _record(table: str, test: Test, steps: int, p: float) -> dict[str, object]:
    first, second = test.first.attrs, test.second.attrs
    return {
        "table": table,
        **{key: first[key] for key in ("dataset", "model", "run", "attack")},
        "first": first["method"],
        "second": second["method"],
        "eps": eps_label(test.eps),
        "steps": steps,
        "difference": round(test.found.value, 6),
        "low": round(test.found.low, 6),
        "high": round(test.found.high, 6),
        "n": test.found.n,
        "only_first": test.found.only_first,
        "only_second": test.found.only_second,
        "p": f"{test.found.p:.6g}",
        "p_holm": f"{p:.6g}",
        "first_sha256": first["network_sha256"],
        "second_sha256": second["network_sha256"],
        "code": first["code"],
    }
