"""Numbers by which a page cites the results that it comes from, and the list of them."""

from collections.abc import Iterable

from irpipe.reports._render import CellText, SubTable
from irpipe.results.labels import number_ranges, result_name
from irpipe.results.result import Result


class FileNumbers:
    """Numbers the results of a page from 1, in the order in which they are first cited."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {}

    def cite(self, results: Iterable[Result]) -> str:
        """The numbers of results, such as "1-3, 6"."""
        results = list(results)
        for result in results:
            self.results.setdefault(result_name(result), result)
        numbers = {name: number for number, name in enumerate(self.results, 1)}
        return number_ranges({numbers[result_name(result)] for result in results})


def file_list(files: FileNumbers) -> SubTable:
    """One row per result: its number, file and hashes."""
    rows = []
    for number, (name, result) in enumerate(files.results.items(), 1):
        attrs = result.attrs
        texts = (
            str(number),
            f"results/{name}.h5",
            result.sha256[:16],
            attrs["network_sha256"][:16],
            attrs["code_hash"],
        )
        rows.append(list(map(CellText, texts)))
    header = ["No.", "File", "SHA-256", "SHA-256 of its network", "Code hash"]
    return SubTable("Files that the numbers come from", header, rows)
