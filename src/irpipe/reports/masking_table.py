"""The table shows for each network which flags say that it masks its gradients instead of being
robust.
"""

from pathlib import Path

import pandas as pd

from irpipe.analysis.bracket import MAX_MISSED_SHARE
from irpipe.analysis.gradient_masking import MaskingFlag, masking_flags, summarise
from irpipe.analysis.paired import ALPHA
from irpipe.analysis.roles import flags_eps
from irpipe.errors import IrpipeError
from irpipe.option_types import Names
from irpipe.reports._cells import Record
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.labels import bound_label, dataset_model_label, eps_norm, method_label
from irpipe.results.result import Result
from irpipe.results.select import ACCURACY_ARRAYS, select_attacks, select_proofs, with_proofs

LEGEND = (
    "Each flag has its numbers at the eps above it. A flag is raised if one step or a rival attack "
    "leaves fewer images correct, or if a larger eps or the last iterate leaves more, by more than "
    f"chance (McNemar's test on the same images, p < {ALPHA} for each flag). It is also raised if "
    "the largest eps leaves as many images correct as the smallest, if the gradients of more than "
    f"{MAX_MISSED_SHARE:.0%} of the images vanish, or if the steps cannot reach eps. A network "
    "whose accuracy is no better than guessing has nothing to lose: no flag tells against it. The "
    "flag 'proofs meet attacks' "
    "rules masking out: all images that the white box leaves correct are certified, but for at "
    f"most {MAX_MISSED_SHARE:.0%} of all images, and no more than chance."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attacks: Names = ["pgd", "margin_pgd", "square"],  # noqa: B006
    certify: Names | None = None,
) -> list[Path]:
    """Write one table per network with one row per flag; return the paths of its files.

    `certify` names the attacks whose results have proofs; None means all of kind `certify`.

    Raises IrpipeError as `select_attacks`, `select_proofs` and `masking_flags` do, and if no flag
    can be computed from the attacks.
    """
    subtables: list[SubTable] = []
    records: list[Record] = []
    arrays = (*ACCURACY_ARRAYS, "indices")
    selected = select_attacks(results, attacks, output.name, arrays, partly=True)
    proofs = select_proofs(results, certify, output.name)
    for pair, networks in selected.items():
        for group in networks:
            flags = masking_flags(with_proofs(group, proofs), output.name)
            if not flags:
                raise IrpipeError(
                    f"{output.name}: no flag can be computed from the attacks {', '.join(attacks)}"
                )
            network = group[0]
            bound = bound_label(flags_eps(group, output.name), eps_norm(network))
            heading = f"{dataset_model_label(pair)}, {method_label(network, results)}, {bound}"
            subtables.append(_subtable(heading, flags))
            records += [_record(output.name, network, flag, summarise(flags)) for flag in flags]
    page = TablePage(title, subtables, LEGEND, is_prose=True)
    return write(output, page, pd.DataFrame(records, dtype=object))


def _subtable(heading: str, flags: list[MaskingFlag]) -> SubTable:
    texts = [(flag.name, "yes" if flag.is_raised else "no", flag.numbers) for flag in flags]
    texts.append(("Summary", "", summarise(flags)))
    rows = [[CellText(text) for text in row] for row in texts]
    return SubTable(heading, ["Flag", "Raised", "Numbers"], rows)


def _record(table: str, network: Result, flag: MaskingFlag, summary: str) -> Record:
    attrs = network.attrs
    return {
        "table": table,
        **{key: attrs[key] for key in ("dataset", "model", "method", "run")},
        "flag": flag.name,
        "about": flag.about,
        "raised": "yes" if flag.is_raised else "no",
        "value": round(flag.value, 6),
        "against": round(flag.against, 6),
        "numbers": flag.numbers,
        "summary": summary,
        "network_sha256": attrs["network_sha256"],
    }
