"""The table shows how many adversarial images lie within a proof's eps. None of them is
misclassified, or there would be no table.
"""

from pathlib import Path

import pandas as pd

from irpipe.analysis.cross_check import Comparison, cross_check
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.reports._cells import Record
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.result import Result

LEGEND = (
    "Certified: images that the proofs certify at some eps. Within: adversarial images whose "
    "l-inf distance is at most the eps at which their image is certified, over all eps and step "
    "counts of the attack. All of them are classified correctly."
)


def report(
    results: list[Result], output: Path, *, title: str, attacks: Names | None = None
) -> list[Path]:
    """Write one row per result of kind `certify` and attack on its network; return the paths.

    `attacks` are those to compare; None means all of `results`, and in a config all of the
    config's. Raises IrpipeError if an image is certified and broken, or if nothing is certified.
    """
    selected = [
        result for result in results if attacks is None or result.attrs["attack"] in attacks
    ]
    comparisons = cross_check(selected)
    if not comparisons:
        raise IrpipeError(f"{output.name}: expected a result of kind 'certify'; found none")
    header = ["Network", "Proofs", "Attack", "Certified", "Within"]
    rows = [[CellText(text) for text in _row(comparison)] for comparison in comparisons]
    page = TablePage(title, [SubTable("All networks", header, rows)], LEGEND)
    records = [_record(output.name, comparison) for comparison in comparisons]
    return write(output, page, pd.DataFrame(records, dtype=object))


def _row(comparison: Comparison) -> list[str]:
    proof, attack = comparison.proof, comparison.attack
    network = "/".join(proof[key] for key in ("dataset", "model", "method", "run"))
    counts = [str(comparison.n_certified), str(comparison.n_within)]
    return [network, proof["attack"], attack["attack"], *counts]


def _record(table: str, comparison: Comparison) -> Record:
    proof = comparison.proof
    return {
        "table": table,
        **{key: proof[key] for key in ("dataset", "model", "method", "run")},
        "proof": proof["attack"],
        "attack": comparison.attack["attack"],
        "n_certified": comparison.n_certified,
        "n_within": comparison.n_within,
        "network_sha256": proof["network_sha256"],
    }
