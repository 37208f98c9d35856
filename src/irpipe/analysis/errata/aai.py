"""Errata of Tables 2, A4 and A5: means over a handful of images."""

from irpipe.analysis.errata import ErratumRow, erratum_row, released_results
from irpipe.published import METHODS, published_table
from irpipe.results.labels import DatasetModel, eps_label
from irpipe.results.rank_correlation import MIN_N_FOR_INTERVAL, rank_correlation
from irpipe.results.result import Result

TABLES = ("2", "A4", "A5")


def find_errata(groups: dict[DatasetModel, list[Result]]) -> list[ErratumRow]:
    """Find the cells whose mean is over fewer than 30 images (C.6-2).

    The mean is over the images whose prediction the attack did not change.
    """
    rows: list[ErratumRow] = []
    results = released_results(groups)
    for table in TABLES:
        for key, published in published_table(table).items():
            result = results.get(key[:3])
            if result is None or key.attack != f"aai_{result.attrs['options']['interpreter']}":
                continue
            assert key.eps is not None and key.steps is not None  # these tables print both
            tau = rank_correlation(result, key.eps, key.steps)
            if tau is None or tau.n >= MIN_N_FOR_INTERVAL:
                continue
            n_images = len(result.arrays["indices"])
            note = f"over {tau.n} of {n_images} images, whose prediction did not change; "
            note += f"over all images, with 0 for the others: {tau.value_all:z.3f}"
            rows.append(
                erratum_row(
                    "Survivors",
                    "C.6-2",
                    key[:2],
                    f"{METHODS[key.method]}, ε = {eps_label(key.eps)}, Table {table}",
                    f"{published.value:.3f}",
                    f"{tau.value:z.3f}" if tau.n else "no mean",
                    note,
                )
            )
    return rows
