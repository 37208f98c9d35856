"""Errata of the paper, as results show them: one module per kind of attack or group of kinds.

Each module has `find_errata(groups)`. It takes the results of one attack, grouped by data set
and model, and returns the rows of the errata table.
"""

from irpipe.results.labels import DatasetModel
from irpipe.results.result import Result

ErratumRow = dict[str, object]
NetworkKey = tuple[str, str, str]  # data set, model, method
COLUMNS = ("item", "protocol", "dataset", "model", "what", "published", "measured", "note")


def erratum_row(
    item: str,
    protocol: str,
    dataset_model: DatasetModel,
    what: str,
    published: str,
    measured: str,
    note: str,
) -> ErratumRow:
    """One row of the errata table.

    `item` names the erratum and `protocol` its section in docs/protocol.md. `what` says which
    number or statement of the paper the row is about, `note` what follows from the two values.
    """
    values = (item, protocol, *dataset_model, what, published, measured, note)
    return dict(zip(COLUMNS, values, strict=True))


def released_results(groups: dict[DatasetModel, list[Result]]) -> dict[NetworkKey, Result]:
    """The results of released networks. The paper's numbers come from these networks."""
    return {
        (*dataset_model, str(result.attrs["method"])): result
        for dataset_model, group in groups.items()
        for result in group
        if result.attrs["run"] == "released"
    }
