"""The table shows how much maps may change within eps at most, which is proven, and how much an
attack changes them. In between lies what is possible.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from irpipe.analysis.certified_maps import (
    MAP_ARRAYS,
    Discrepancy,
    one_class,
    robustness,
    two_class,
)
from irpipe.analysis.paired import require_same_images
from irpipe.errors import IrpipeError
from irpipe.reports._cells import Record
from irpipe.reports._render import CellText, SubTable, TablePage, write
from irpipe.results.labels import (
    EPS_TOLERANCE,
    dataset_model_label,
    eps_label,
    method_label,
    result_name,
)
from irpipe.results.result import Result
from irpipe.results.select import select_attack, select_attacks

TOP_K_ARRAYS = ("eps", "rank", "provably_stays", "attacked_stays")
HEADER = ("Method", "ε", "1-class", "2-class", "top-k", "by Proposition 1", "by the margin")
LEGEND = (
    "The maps are CAM with the factor 1/u. 1-class: mean \N{SCRIPT SMALL L}1 discrepancy of the "
    "true class's map; 2-class: that of the true class and of the best other class of the clean "
    "image. Each has the certified maximum within ε, then in parentheses the largest value that "
    "the attack found, and below it the quotient of both. top-k: how many of the k largest entries "
    "of the true class's map provably stay among the k largest, and in parentheses how many the "
    "attack leaves there. The last two columns show the share of images that are certified to be "
    "robust by Proposition 1 and by bounds of the margins, without trees. No bound of "
    "discrepancies can prove more by Proposition 1 than the share in parentheses, because the "
    "attack reaches half the margin on all other images. Means are over n images."
)


def report(
    results: list[Result],
    output: Path,
    *,
    title: str,
    attack: str = "certify_maps",
    top_k_attack: str = "certify_top_k",
) -> list[Path]:
    """Write one row per network and eps; return the paths of the table's files.

    Raises IrpipeError as `select_attacks` does, and if the two results of a network are of other
    images or lack an eps.
    """
    select_attack(results, attack, output.name, MAP_ARRAYS)
    select_attack(results, top_k_attack, output.name, TOP_K_ARRAYS)
    subtables: list[SubTable] = []
    records: list[Record] = []
    groups = select_attacks(results, [attack, top_k_attack], output.name, ("eps",))
    for pair, networks in groups.items():
        group = [record for network in networks for record in _records(output.name, *network)]
        labels = [
            method_label(maps, results) for maps, _ in networks for eps in maps.arrays["eps"] if eps
        ]
        rows = [_text(label, record) for label, record in zip(labels, group, strict=True)]
        heading = f"{dataset_model_label(pair)}, k = {group[0]['top_k']}, n = {group[0]['n']}"
        subtables.append(SubTable(heading, HEADER, rows))
        records += group
    frame = pd.DataFrame(records, dtype=object)
    return write(output, TablePage(title, subtables, LEGEND), frame)


def _records(table: str, maps: Result, top_k: Result) -> list[Record]:
    """One record for each eps above 0."""
    attrs = maps.attrs
    require_same_images(maps, top_k, table)
    robust = robustness(maps)
    records = []
    for index, eps in enumerate(maps.arrays["eps"]):
        if eps == 0:
            continue
        (others,) = np.nonzero(np.abs(top_k.arrays["eps"] - eps) < EPS_TOLERANCE)
        if not others.size:
            raise IrpipeError(
                f"{table}: {result_name(top_k)} lacks ε = {eps_label(eps)}, "
                f"which {result_name(maps)} has; evaluate both with the same eps"
            )
        numbers = _discrepancy_numbers("one", one_class(maps), index)
        numbers |= _discrepancy_numbers("two", two_class(maps), index)
        for name in ("provably_stays", "attacked_stays"):
            numbers[name] = top_k.arrays[name][:, others[0]].sum(axis=1).mean()
        numbers |= {name: array[:, index].mean() for name, array in robust._asdict().items()}
        records.append(
            {
                "table": table,
                **{key: attrs[key] for key in ("dataset", "model", "method", "run")},
                "eps": eps_label(eps),
                "n": len(maps.arrays["label"]),
                "top_k": len(top_k.arrays["rank"]),
                **{name: round(float(number), 6) for name, number in numbers.items()},
                "network_sha256": attrs["network_sha256"],
                "code_hash": attrs["code_hash"],
            }
        )
    return records


def _discrepancy_numbers(
    class_set: str, discrepancy: Discrepancy, eps_index: int
) -> dict[str, float]:
    """Mean certified and attacked discrepancy at one eps, and their quotient."""
    certified, attacked = (array[:, eps_index].mean() for array in discrepancy)
    ratio = certified / attacked if attacked else np.nan
    return {
        f"certified_{class_set}": certified,
        f"attacked_{class_set}": attacked,
        f"ratio_{class_set}": ratio,
    }


def _text(label: str, record: Record) -> list[CellText]:
    cells = [CellText(label), CellText(str(record["eps"]))]
    for class_set in ("one", "two"):
        certified, attacked = (record[f"{name}_{class_set}"] for name in ("certified", "attacked"))
        ratio = f"ratio {record[f'ratio_{class_set}']:.2f}" if attacked else "no ratio"
        cells.append(CellText(f"{certified:.3f} ({attacked:.3f})", second_line=ratio))
    return [
        *cells,
        CellText(f"{record['provably_stays']:.2f}", f"({record['attacked_stays']:.2f})"),
        CellText(f"{record['by_proposition1']:.2f}", f"({record['proposition1_limit']:.2f})"),
        CellText(f"{record['by_margin']:.2f}"),
    ]
