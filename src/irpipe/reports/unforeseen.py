"""Accuracy under the unforeseen attacks, beside Table 5 (protocol C.6-3)."""

from pathlib import Path

from irpipe.attacks.parts import table5
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.published import values
from irpipe.quantities import Names
from irpipe.reports.parts.cells import Column, Measured, beside, block
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import ACCURACY, SAME, eps_label, method, name, network, rate, together

NEAR, FAR = 0.03, 0.06  # what two runs of the released code may differ by, as it seeds one generator of two; twice it
LEGEND = (
    "Accuracy on the attacked test images, 95% Wilson interval in brackets, the published value in parentheses. "
    "An image whose iterate became NaN is shown with its last finite one; the released code scored it as class 0, "
    "and that accuracy stands below. Differs from the published value, scored alike: * by more than .03, ** by more "
    "than .06; the released code seeds one of its two generators, so that no two of its runs agree. ±: standard "
    "deviation over seeds. The released step is eps / sqrt(steps), although the variables of gabor, snow and fog have "
    "ranges that do not grow with eps; upstream's is .002236."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["gabor", "snow", "jpeg_linf", "jpeg_l2", "jpeg_l1", "fog"],  # noqa: B006 (read, never changed)
) -> list[Path]:
    """Write a table as `output`.csv (one record per cell), .md, .tex and .html; return the four paths.

    Rows are networks, columns attacks and their radii. Attacks that differ in their step rule alone are compared in a
    block of their own. Raises IrpipeError as `selection.together` does, and for other kinds of attack.
    """
    blocks, records = [], []
    for pair, networks in together(results, attacks, output.name, [*ACCURACY, "nan"]).items():
        rows = [[cell for result in each for cell in _cells(output.name, result)] for each in networks]
        counts = " or ".join(str(count) for count in sorted({cell.n for row in rows for cell in row}))
        heading = f"{network(pair)}, n = {counts}"
        shown, found = block(output.name, heading, [cell.column for cell in rows[0]], rows)
        blocks += [shown, *_rules(f"{network(pair)}, the stronger step rule", rows)]
        records += found
    return write(output, Page(title, blocks, LEGEND), records)


def _cells(table: str, result: Result) -> list[Measured]:
    """One cell a radius."""
    spec = result.attrs["spec"]
    if result.attrs["kind"] not in {known.split("_")[0] for known in table5.RADII}:
        raise IrpipeError(f"{table}: {name(result)} is of kind '{result.attrs['kind']}', which Table 5 does not have")
    scored, steps, cells = table5.as_scored(result), int(result.arrays["steps"][0]), []
    for place, eps in enumerate(result.arrays["eps"].tolist()):
        several = f", ε = {eps_label(eps)}" if len(result.arrays["eps"]) > 1 else ""
        column = Column(f"{table5.title(result)}{several}", eps, steps, table5.column(spec))
        ours, theirs = rate(result, eps, steps), rate(scored, eps, steps)
        assert ours and theirs  # the result's own radius and count
        lost = int(result.arrays["nan"][:, place].sum())
        as_printed = table5.as_published(spec) and abs(eps - table5.RADII[column.attack]) < SAME
        printed = beside(values("5"), result, column) if as_printed else None
        apart = abs(theirs.value - printed.value) if printed else 0.0
        mark = "" if apart < NEAR + SAME else "*" if apart < FAR + SAME else "**"
        note = f"{lost} NaN: as class 0 {theirs.value:.3f}" if lost else ""
        more = {"nan": lost, "as_scored": theirs.value}
        cells.append(Measured(result, column, *ours, printed, mark, note=note, more=more))
    return cells


def _rules(heading: str, rows: list[list[Measured]]) -> list[Block]:
    """A block that says which step rule is the stronger, for every pair of columns that differ in it alone."""
    pairs = [
        (first, second)
        for first, one in enumerate(rows[0])
        for second, other in enumerate(rows[0])
        if _but_for_step(one, "code") == _but_for_step(other, "upstream") is not None
    ]
    if not pairs:
        return []
    shown = [
        [Entry(method(row[0].result)), *(_stronger(row[first], row[second]) for first, second in pairs)] for row in rows
    ]
    return [Block(heading, ["Method", *(rows[0][first].column.title for first, _ in pairs)], shown)]


def _but_for_step(cell: Measured, rule: str) -> tuple[object, float] | None:
    """What a column attacks with besides its rule, if it has this one."""
    spec = cell.result.attrs["spec"]
    return ({**spec, "step": ""}, cell.column.eps) if spec.get("step") == rule else None


def _stronger(released: Measured, upstream: Measured) -> Entry:
    gap = released.value - upstream.value
    said = "equal" if abs(gap) < SAME else f"{'upstream' if gap > 0 else 'released'} by {abs(gap):.3f}"
    return Entry(said, below=f"released {released.value:.3f}, upstream {upstream.value:.3f}")
