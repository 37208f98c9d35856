"""The table lists what the paper got wrong, as the results show it, with published and measured
values.
"""

from pathlib import Path

import pandas as pd

from irpipe.analysis.errata import COLUMNS, ErratumRow, aai, isa, pgd, unforeseen
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.labels import dataset_model_label, result_name
from irpipe.results.result import Result
from irpipe.results.select import select_attack

ERRATA_BY_KIND = {
    "pgd": pgd.find_errata,
    "isa": isa.find_errata,
    "aai": aai.find_errata,
    "gabor": unforeseen.find_errata,
    "snow": unforeseen.find_errata,
    "jpeg": unforeseen.find_errata,
    "fog": unforeseen.find_errata,
}
HEADER = ("Network", "What", "Published", "Measured", "Note")
LEGEND = (
    "Measured: the released networks, attacked by this pipeline; reach and truncated searches are "
    "those of all networks. The label in parentheses is that "
    "of the section in docs/protocol.md."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd"],  # noqa: B006
) -> list[Path]:
    """Write one table per erratum with one row per network or cell; return the paths of its files.

    Raises IrpipeError as `select_attack` does, and for a kind of attack without errata.
    """
    rows: list[ErratumRow] = []
    for attack in attacks:
        groups = select_attack(results, attack, output.name, arrays=())
        first = next(iter(groups.values()))[0]
        kind = first.attrs["kind"]
        if kind not in ERRATA_BY_KIND:
            raise IrpipeError(
                f"{output.name}: {result_name(first)} is of kind '{kind}'; "
                f"errata exist for {', '.join(ERRATA_BY_KIND)}"
            )
        rows += ERRATA_BY_KIND[kind](groups)
    by_item: dict[str, list[ErratumRow]] = {}
    for row in rows:
        by_item.setdefault(str(row["item"]), []).append(row)
    subtables = [
        SubTable(f"{item} ({item_rows[0]['protocol']})", HEADER, list(map(_texts, item_rows)))
        for item, item_rows in by_item.items()
    ]
    page = TablePage(title, subtables, LEGEND, is_prose=True)
    return write(output, page, pd.DataFrame(rows, columns=list(COLUMNS), dtype=object))


def _texts(row: ErratumRow) -> list[CellText]:
    network = dataset_model_label((str(row["dataset"]), str(row["model"])))
    columns = COLUMNS[COLUMNS.index("what") :]
    return [CellText(network), *(CellText(str(row[name])) for name in columns)]
