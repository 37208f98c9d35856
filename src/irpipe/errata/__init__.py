"""What the paper got wrong, as results show it: one file for each kind of attack that bears on it.

Each has `rows(chosen)`, which turns the results of its kind, by data set and model, into findings.
"""

from irpipe.io import Result
from irpipe.reports.parts.selection import Pair

Row = dict[str, object]
Network = tuple[str, str, str]  # data set, model, method
COLUMNS = ("item", "protocol", "dataset", "model", "what", "printed", "ours", "note")


def finding(item: str, protocol: str, pair: Pair, what: str, printed: str, ours: str, note: str) -> Row:
    """One line of the erratum: what the paper prints, what this pipeline finds, and what that means."""
    return dict(zip(COLUMNS, (item, protocol, *pair, what, printed, ours, note), strict=True))


def released(chosen: dict[Pair, list[Result]]) -> dict[Network, Result]:
    """The results of released networks, whose numbers the paper's are."""
    return {
        (*pair, str(result.attrs["method"])): result
        for pair, members in chosen.items()
        for result in members
        if result.attrs["run"] == "released"
    }
