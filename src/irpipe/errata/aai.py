"""Findings on the tables of attacks against interpretability: means over a handful of images."""

from irpipe.errata import Row, finding, released
from irpipe.io import Result
from irpipe.published import METHODS, values
from irpipe.reports.parts.correlation import FEW, correlation
from irpipe.reports.parts.selection import Pair, eps_label

TABLES = ("2", "A4", "A5")


def rows(chosen: dict[Pair, list[Result]]) -> list[Row]:
    """Cells of Tables 2, A4 and A5 that rest on fewer than 30 images, those whose prediction survives (C.6-2)."""
    found, ours = [], released(chosen)
    for table in TABLES:
        for cell, printed in values(table).items():
            result = ours.get(cell[:3])
            if result is None or cell.attack != f"aai_{result.attrs['spec']['interpreter']}":
                continue
            assert cell.eps is not None and cell.steps is not None  # these tables print both
            here = correlation(result, cell.eps, cell.steps)
            if here is None or here.n >= FEW:
                continue
            what = f"{METHODS[cell.method]}, ε = {eps_label(cell.eps)}, Table {table}"
            value = f"{here.value:z.3f}" if here.n else "no mean"
            note = f"over {here.n} of {len(result.arrays['index'])} images, those whose prediction the attack kept; "
            note += f"over all, with 0 for the others: {here.everything:z.3f}"
            found.append(finding("Survivors", "C.6-2", cell[:2], what, f"{printed.value:.3f}", value, note))
    return found
