"""Errata of Table 1: the divisor of NSL, squared norms, few images, truncated searches, IG."""

from irpipe.analysis import nds
from irpipe.analysis.errata import ErratumRow, NetworkKey, erratum_row, released_results
from irpipe.analysis.nds import Scores
from irpipe.published import (
    CLASS_SETS,
    INTERPRETERS,
    NORMS,
    Table1Key,
    Table1Value,
    published_table1,
)
from irpipe.results.labels import DatasetModel, method_label
from irpipe.results.result import Result


def find_errata(groups: dict[DatasetModel, list[Result]]) -> list[ErratumRow]:
    """Find what C.5 I1, C.5 I2, C.5 I5, C.5 I10 and C.5-7 say on Table 1.

    The rows on truncated searches (C.5 I1) are about all networks, the others about the
    released networks of Table 1.
    """
    rows: list[ErratumRow] = []
    for network, result in released_results(groups).items():
        rows += _table1_rows(network, result)
    for dataset_model, group in groups.items():
        rows += [_truncated_row(dataset_model, result, group) for result in group]
    return rows


def _table1_rows(network: NetworkKey, result: Result) -> list[ErratumRow]:
    """Rows on the cells of Table 1 for one network."""
    interpreter = result.attrs["options"]["interpreter"]
    dataset_model = network[:2]
    rows: list[ErratumRow] = []
    for index, measure in enumerate(nds.measures_of(result)):
        published = published_table1().get(Table1Key(*network, interpreter, *measure))
        if published is None:
            continue
        norm, class_set = measure
        cell = f"{INTERPRETERS[interpreter]}, {NORMS[norm]} {CLASS_SETS[class_set]}"
        measured = nds.scores_of(result, index)
        squared = nds.scores_of(result, index, squared=True)
        if class_set == "two" and measured.n_images:
            rows.append(_divisor_row(dataset_model, cell, published, measured))
        if interpreter == "ig" and class_set == "all":
            rows.append(_not_computable_row(dataset_model, cell, published, measured))
        if norm == "l2" and squared.log_distance(published) < measured.log_distance(published):
            rows.append(_squared_row(dataset_model, cell, published, measured, squared))
        n_images = len(result.arrays["is_valid"])
        if 2 * measured.n_images < n_images:
            rows.append(_few_images_row(dataset_model, cell, published, measured, n_images))
    return rows


def _nds_and_nsl(values: Scores | Table1Value) -> str:
    if isinstance(values, Scores) and not values.n_images:
        return "no score"
    nsl = values.nsl if isinstance(values, Table1Value) else values.nsl_per_point
    return f"NDS {values.nds:.4g}, NSL {nsl:.4f}"


def _divisor_row(
    dataset_model: DatasetModel, cell: str, published: Table1Value, measured: Scores
) -> ErratumRow:
    """Whether the published NSL is a mean over points or over images (C.5 I2).

    A mean over images is NaN if no image has a slope.
    """
    to_points = abs(measured.nsl_per_point - published.nsl)
    to_images = abs(measured.nsl_per_image - published.nsl)
    nearer = "images" if to_images < to_points else "points"
    return erratum_row(
        "Divisor of NSL",
        "C.5 I2",
        dataset_model,
        cell,
        f"NSL {published.nsl:.4f}",
        f"{measured.nsl_per_point:.4f} per point, {measured.nsl_per_image:.4f} per image",
        f"the published value is nearer to the mean over {nearer}; the text says images",
    )


def _not_computable_row(
    dataset_model: DatasetModel, cell: str, published: Table1Value, measured: Scores
) -> ErratumRow:
    """A cell that the released code cannot have made (C.5 I10)."""
    return erratum_row(
        "Cells without code",
        "C.5 I10",
        dataset_model,
        cell,
        _nds_and_nsl(published),
        _nds_and_nsl(measured),
        "the released code crashes for IG and all classes",
    )


def _squared_row(
    dataset_model: DatasetModel,
    cell: str,
    published: Table1Value,
    measured: Scores,
    squared: Scores,
) -> ErratumRow:
    """A cell that fits the squares of the normalised discrepancies better (C.5 I5)."""
    return erratum_row(
        "Norm or its square",
        "C.5 I5",
        dataset_model,
        cell,
        _nds_and_nsl(published),
        _nds_and_nsl(measured),
        f"squared: {_nds_and_nsl(squared)}, which is nearer to the published values",
    )


def _few_images_row(
    dataset_model: DatasetModel,
    cell: str,
    published: Table1Value,
    measured: Scores,
    n_images: int,
) -> ErratumRow:
    """A cell in which less than half of the images count (C.5-7)."""
    return erratum_row(
        "Few images",
        "C.5-7",
        dataset_model,
        cell,
        _nds_and_nsl(published),
        _nds_and_nsl(measured),
        f"{measured.n_images} of {n_images} images count, with {measured.n_points} points",
    )


def _truncated_row(dataset_model: DatasetModel, result: Result, group: list[Result]) -> ErratumRow:
    """How many searches for gamma = 1 / lambda ended before gamma was too large (C.5 I1)."""
    is_capped = result.arrays["gamma_capped"][:, 1:]  # without the plain attack
    largest_gamma = result.arrays["gamma"].max()
    interpreter = INTERPRETERS[result.attrs["options"]["interpreter"]]
    return erratum_row(
        "Truncated search",
        "C.5 I1",
        dataset_model,
        f"binary search for lambda, {interpreter}, {method_label(result, group)}",
        "until no successful attack can be found",
        f"{int(is_capped.sum())} of {is_capped.size} searches ({is_capped.mean():.1%}) "
        "end at the cap",
        f"there, gamma = 1/lambda could be larger; the largest gamma is {largest_gamma:.4g}",
    )
