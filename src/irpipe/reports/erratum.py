"""What the paper got wrong, as results show it (`irpipe.errata`)."""

from pathlib import Path

from irpipe.errata import COLUMNS, Row, aai, isa, pgd, unforeseen
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.quantities import Names
from irpipe.reports.parts.render import Block, Entry, Page, write
from irpipe.reports.parts.selection import name, network, select

FINDINGS = {"pgd": pgd.rows, "isa": isa.rows, "aai": aai.rows}  # by kind of attack
FINDINGS |= dict.fromkeys(("gabor", "snow", "jpeg", "fog"), unforeseen.rows)
LEGEND = "Ours: the released networks, attacked by this pipeline. In parentheses: the protocol section."


def report(results: list[Result], output: Path, *, title: str, attacks: Names = ["pgd"]) -> list[Path]:  # noqa: B006
    """Write the erratum as `output`.csv (one record per finding), .md, .tex and .html; return the four paths.

    Raises IrpipeError as `selection.select` does, and for a kind of attack without findings.
    """
    rows: list[Row] = []
    for attack in attacks:
        chosen = select(results, attack, output.name, arrays=())
        first = next(iter(chosen.values()))[0]
        kind = first.attrs["kind"]
        if kind not in FINDINGS:
            raise IrpipeError(
                f"{output.name}: {name(first)} is of kind '{kind}'; findings exist for {', '.join(FINDINGS)}"
            )
        rows += FINDINGS[kind](chosen)
    blocks = []
    for item in dict.fromkeys(str(row["item"]) for row in rows):
        mine = [row for row in rows if row["item"] == item]
        shown = [
            [Entry(network((str(row["dataset"]), str(row["model"]))))] + [Entry(str(row[key])) for key in COLUMNS[4:]]
            for row in mine
        ]
        heading = f"{item} ({mine[0]['protocol']})"
        blocks.append(Block(heading, ["Network", "What", "Printed", "Ours", "Note"], shown))
    return write(output, Page(title, blocks, LEGEND, prose=True), rows)
