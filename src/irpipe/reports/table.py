"""Adversarial test accuracy over radii or step counts, beside the published values (Tables 3, 4, A1-A3)."""

import statistics
from pathlib import Path
from typing import Literal, NamedTuple

from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import METHODS, Cell, Printed, values
from irpipe.quantities import Count
from irpipe.render import Block, Entry, Page, write
from irpipe.selection import SAME, Pair, Rate, eps_label, method, name, network, rate, select

LEGEND = (
    "Accuracy on the attacked test images, 95% Wilson interval in brackets, the published value in "
    "parentheses. n: test images. Differs from the published value: * by one image, ** by more. "
    "±: standard deviation over seeds."
)


class Column(NamedTuple):
    """One radius (l-infinity, [0, 1]) and step count."""

    eps: float
    steps: int


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "pgd",
    over: Literal["eps", "steps"] = "eps",
    steps: Count = 200,
    published: Literal["3", "4", "A1", "A2", "A3"] | None = None,
) -> list[Path]:
    """Write a table as `output`.csv (one record per cell), .md, .tex and .html; return the four paths.

    A method trained from several seeds gets one more row: the mean over them and their standard deviation.
    Columns are radii up to the training radius at `steps` steps, or step counts at the training radius; where
    the `published` table has such values for a data set and model, they are exactly its columns. Raises
    IrpipeError as `irpipe.selection.select` does, and if a result lacks a column.
    """
    printed = values(published) if published else {}
    blocks, records = [], []
    for pair, members in select(results, attack, output.name).items():
        columns = _columns(pair, members, over, steps, printed)
        rows, counts = [], set()
        for result in members:
            entries = []
            for column in columns:
                ours = rate(result, *column)
                if ours is None:
                    raise IrpipeError(f"{output.name}: {_lacks(result, column)}")
                theirs = _printed(printed, result, column)
                entries.append(_entry(ours, theirs))
                records.append(_record(output.name, result, column, ours, theirs))
                counts.add(ours.n)
            rows.append([_label(result, printed), *entries])
        means, of_means = _over_seeds(output.name, members, columns, printed)
        rows, records = rows + means, records + of_means
        blocks.append(Block(_heading(pair, members[0], over, steps, counts), _header(columns, over), rows))
    return write(output, Page(title, blocks, LEGEND), records)


def _over_seeds(
    table: str, members: list[Result], columns: list[Column], printed: dict[Cell, Printed]
) -> tuple[list[list[Entry]], list[dict[str, object]]]:
    """A row, and its records, for each method with several seeds: mean and sample standard deviation."""
    seeds: dict[str, list[Result]] = {}
    for result in members:
        if result.attrs["run"] != "released":
            seeds.setdefault(result.attrs["method"], []).append(result)
    rows: list[list[Entry]] = []
    records: list[dict[str, object]] = []
    for name_, results in seeds.items():
        if len(results) < 2:
            continue
        entries = []
        for column in columns:
            rates = [found for result in results if (found := rate(result, *column))]
            mean, spread = statistics.fmean(r.value for r in rates), statistics.stdev(r.value for r in rates)
            theirs = _printed(printed, results[0], column)
            entries.append(Entry(f"{mean:.3f}", f"({theirs.value:.3f})" if theirs else "", f"± {spread:.3f}"))
            same = {key: results[0].attrs[key] for key in ("dataset", "model", "method", "attack")}
            records.append(
                {key: "" for key in _record(table, results[0], column, rates[0], theirs)}
                | {"table": table, **same, "run": f"mean of {len(rates)}", "eps": eps_label(column.eps)}
                | {"steps": column.steps, "metric": "accuracy", "value": round(mean, 6), "n": rates[0].n}
                | {"spread": round(spread, 6), "published": theirs.value if theirs else ""}
            )
        rows.append([Entry(METHODS.get(name_, name_), below=f"mean of {len(results)} seeds"), *entries])
    return rows, records


def _columns(pair: Pair, members: list[Result], over: str, steps: int, printed: dict[Cell, Printed]) -> list[Column]:
    """Columns of the published table for this pair, else those of its results; never none."""
    radius = members[0].attrs["nominal_radius"]
    cells = [cell for cell in printed if cell[:2] == pair]
    if over == "steps":
        at_radius = {cell.steps for cell in cells if cell.eps is not None and abs(cell.eps - radius) < SAME}
        counts = at_radius or {int(count) for result in members for count in result.arrays["steps"]}
        return [Column(radius, count) for count in sorted(filter(None, counts))]
    at_steps = {cell.eps for cell in cells if cell.steps == steps and cell.eps is not None}
    radii = at_steps or {float(eps) for result in members for eps in result.arrays["eps"] if eps < radius + SAME}
    return [Column(eps, steps) for eps in sorted(radii or {radius})]


def _printed(printed: dict[Cell, Printed], result: Result, column: Column) -> Printed | None:
    attrs = result.attrs
    for cell, value in printed.items():
        same = cell[:3] == (attrs["dataset"], attrs["model"], attrs["method"]) and cell.steps == column.steps
        if same and cell.eps is not None and abs(cell.eps - column.eps) < SAME:
            return value
    return None


def _mark(difference: float, n: int) -> str:
    """How far two accuracies on `n` images differ: less than half an image, up to one, more."""
    if abs(difference) < 0.5 / n:
        return ""
    return "*" if abs(difference) <= 1 / n + SAME else "**"


def _entry(ours: Rate, theirs: Printed | None) -> Entry:
    interval = f"[{ours.low:.2f}, {ours.high:.2f}]"
    if theirs is None:
        return Entry(f"{ours.value:.3f}", below=interval)
    return Entry(f"{ours.value:.3f}", f"({theirs.value:.3f})", interval, _mark(ours.value - theirs.value, ours.n))


def _record(table: str, result: Result, column: Column, ours: Rate, theirs: Printed | None) -> dict[str, object]:
    attrs = result.attrs
    difference = ours.value - theirs.value if theirs else 0.0
    return {
        "table": table,
        **{key: attrs[key] for key in ("dataset", "model", "method", "run", "attack")},
        "eps": eps_label(column.eps),
        "steps": column.steps,
        "metric": "accuracy",
        "value": round(ours.value, 6),
        "n": ours.n,
        "low": round(ours.low, 6),
        "high": round(ours.high, 6),
        "spread": "",
        "published": theirs.value if theirs else "",
        "printed_as": theirs.label if theirs else "",
        "difference": round(difference, 6) + 0.0 if theirs else "",  # + 0.0: no "-0.0"
        "mark": _mark(difference, ours.n),
        "network_sha256": attrs["network_sha256"],
        "code": attrs["code"],
    }


def _label(result: Result, printed: dict[Cell, Printed]) -> Entry:
    row = tuple(result.attrs[key] for key in ("dataset", "model", "method"))
    labels = {value.label for cell, value in printed.items() if cell[:3] == row} - {row[2]}
    return Entry(method(result), below="".join(f"printed as {METHODS[label]}" for label in labels))


def _header(columns: list[Column], over: str) -> list[str]:
    if over == "eps":
        return ["Method", *(f"ε = {eps_label(column.eps)}" for column in columns)]
    return ["Method", *(f"{column.steps} step{'s' * (column.steps > 1)}" for column in columns)]


def _heading(pair: Pair, first: Result, over: str, steps: int, counts: set[int]) -> str:
    fixed = f"{steps} steps" if over == "eps" else f"ε = {eps_label(first.attrs['nominal_radius'])}"
    n = " or ".join(str(count) for count in sorted(counts))
    return f"{network(pair)}, {fixed}, n = {n}"


def _lacks(result: Result, column: Column) -> str:
    radii = ", ".join(eps_label(float(eps)) for eps in result.arrays["eps"])
    steps = ", ".join(str(count) for count in result.arrays["steps"])
    wanted = f"ε = {eps_label(column.eps)} at {column.steps} steps"
    return f"{name(result)} lacks {wanted}; it has ε = {radii} at {steps} steps; evaluate it with both"
