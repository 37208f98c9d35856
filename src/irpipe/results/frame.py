"""Results as one tidy pandas DataFrame.

pandas is imported only when `to_frame` is called, so that commands start at once.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from irpipe.errors import IrpipeError
from irpipe.files import files_below
from irpipe.results.accuracy import Accuracy, accuracy_of, certified_at
from irpipe.results.labels import EPS_TOLERANCE, measure_labels
from irpipe.results.rank_correlation import RankCorrelation, rank_correlation_at
from irpipe.results.result import Result, read_result, require_parts

if TYPE_CHECKING:
    import pandas as pd

ResultSource = str | Path | Result

# Columns by their dtype. Int64 and string are pandas' nullable types, so that what a kind of
# attack does not have is <NA>.
NETWORK_COLUMNS = dict.fromkeys(("dataset", "model", "method", "run"), "string")
ATTACK_COLUMNS = {"attack": "string", "kind": "string", "seed": "int64"}
AXIS_COLUMNS = {
    "eps": "float64",
    "eps_norm": "string",
    "point": "int64",
    "steps": "Int64",
    "measure": "string",
}
NUMBER_COLUMNS = {
    "n": "int64",
    "accuracy": "float64",
    "accuracy_low": "float64",
    "accuracy_high": "float64",
    "certified": "float64",
    "certified_low": "float64",
    "certified_high": "float64",
    "undecided": "float64",
    "undecided_low": "float64",
    "undecided_high": "float64",
    "mean_linf_distance": "float64",
    "tau": "float64",
    "tau_n": "Int64",
    "tau_low": "float64",
    "tau_high": "float64",
    "tau_all": "float64",
    "tau_all_low": "float64",
    "tau_all_high": "float64",
    "tau_undefined": "Int64",
    "mean_normalised_discrepancy": "float64",
    "n_valid": "Int64",
}
IMAGE_COLUMNS = {
    "index": "int64",
    "label": "int64",
    "prediction": "int64",
    "correct": "bool",
    "loss": "float64",
    "linf_distance": "float64",
}
ORIGIN_COLUMNS = {
    "network_sha256": "string",
    "data_sha256": "string",
    "code_hash": "string",
    "train_eps": "float64",
    "device": "string",
}
ATTRS = (*NETWORK_COLUMNS, *ATTACK_COLUMNS, *ORIGIN_COLUMNS)
ARRAYS = ("correct", "indices", "label", "linf_distance", "loss", "prediction")
# The dtype of further arrays per image, by the kind of their numpy dtype.
EXTRA_DTYPES = {"b": "boolean", "i": "Int64", "u": "Int64", "f": "float64"}


def to_frame(
    results: ResultSource | Iterable[ResultSource], per_image: bool = False
) -> "pd.DataFrame":
    """One table of all results: a row per network, attack, point and step count (or measure).

    `results` are result files, folders (all `.h5` files below them, by rising path), Result
    objects, or a mixture. A file counts once, however often it is named. Columns are, with <NA>
    or NaN where a kind of attack has no such value:

    - dataset, model, method, run: the network, as named in the config;
    - attack, kind, seed: name, kind and seed of the attack;
    - eps: the attack's bound, l-inf in [0, 1] (but docs/result_format.md has the units of
      unforeseen attacks); NaN if the attack chooses eps;
    - eps_norm: the norm of eps, of attacks that have several;
    - point: index of eps or of the attack's own point, from 0;
    - steps: step count; measure: norm and class set of the discrepancy, such as "l1 one";
    - n: images; accuracy in [accuracy_low, accuracy_high]: share of 1, 95% Wilson interval;
    - certified in [certified_low, certified_high], undecided in [undecided_low, undecided_high]:
      shares of 1 whose sum is the accuracy that the search for proofs leaves, Wilson (`certify`);
    - mean_linf_distance: mean l-inf distance from the clean images, in [0, 1];
    - tau in [tau_low, tau_high]: mean of Kendall's tau-b over the tau_n images that count, 95%
      bootstrap interval; tau_all in [tau_all_low, tau_all_high]: over all images (C.6-2);
      tau_undefined: images whose tau is not defined;
    - mean_normalised_discrepancy: over the n_valid images whose point counts (C.5-6);
    - network_sha256, data_sha256, code_hash: what the result comes from;
    - train_eps: l-inf bound of training, in [0, 1]; device: "cpu" or "cuda".

    With `per_image`, each of these rows becomes one row per image. Instead of n to n_valid it has
    index (position in the test set), label, prediction, correct, loss (cross-entropy in nats),
    linf_distance in [0, 1], and all other arrays `[N, E, S]` of the results under their names.

    Raises IrpipeError if there is no result, and for what is not the result of an attack.
    """
    import pandas as pd

    frames = [
        _image_rows(result) if per_image else _cell_rows(result)
        for result in _read_results(results)
    ]
    if not frames:
        raise IrpipeError("to_frame: no results; expected result files (.h5) or folders with some")
    frame = pd.concat(frames, ignore_index=True)
    return frame[[*frame.columns.drop(list(ORIGIN_COLUMNS)), *ORIGIN_COLUMNS]]


def accuracy_in(frame: "pd.DataFrame", eps: float, steps: int) -> Accuracy | None:
    """The accuracy at one eps and step count in the frame of one result; None: it has none."""
    row = _row(frame, eps, steps)
    if row is None:
        return None
    return Accuracy(row["accuracy"], int(row["n"]), row["accuracy_low"], row["accuracy_high"])


def rank_correlation_in(frame: "pd.DataFrame", eps: float, steps: int) -> RankCorrelation | None:
    """Kendall's tau at one eps and step count in the frame of one result; None: it has none."""
    row = _row(frame, eps, steps)
    if row is None:
        return None
    return RankCorrelation(
        value=row["tau"],
        n=int(row["tau_n"]),
        low=row["tau_low"],
        high=row["tau_high"],
        value_all=row["tau_all"],
        low_all=row["tau_all_low"],
        high_all=row["tau_all_high"],
        n_undefined=int(row["tau_undefined"]),
    )


def _row(frame: "pd.DataFrame", eps: float, steps: int) -> "pd.Series[Any] | None":
    """The row of the cell at one eps and step count; None means that there is none."""
    is_there = ((frame["eps"] - eps).abs() <= EPS_TOLERANCE) & (frame["steps"] == steps)
    return frame[is_there].iloc[0] if is_there.any() else None


def _read_results(results: ResultSource | Iterable[ResultSource]) -> Iterator[Result]:
    """Yield all results, in order. Raises IrpipeError for what is not the result of an attack."""
    sources = [results] if isinstance(results, ResultSource) else results
    read: set[Path] = set()
    for source in sources:
        if isinstance(source, Result):
            keys = (*NETWORK_COLUMNS, "attack")
            name = "/".join(str(source.attrs[key]) for key in keys if key in source.attrs)
            yield _checked(source, name)
            continue
        for path in _result_files(Path(source)):
            if path.resolve() not in read:
                read.add(path.resolve())
                yield _checked(read_result(path), str(path))


def _result_files(path: Path) -> list[Path]:
    """The result files below a folder, or the one file that `path` is."""
    if path.suffix == ".csv":
        raise IrpipeError(
            f"{path}: not the result of an attack (.h5); read training logs with pandas.read_csv"
        )
    if not path.is_dir():
        return [path]
    paths = sorted(file for file in files_below(path) if file.suffix == ".h5")
    if not paths:
        raise IrpipeError(f"{path}: no result files (.h5) in this folder")
    return paths


def _checked(result: Result, name: str) -> Result:
    """The result, if it has what every result of an attack has; else raise IrpipeError."""
    require_parts(result, name, (*ATTRS, "options"), ARRAYS)
    return result


def _cell_rows(result: Result) -> "pd.DataFrame":
    """One row per cell, that is per point and step count (or measure), with its numbers."""
    import pandas as pd

    arrays = result.arrays
    n_points, n_positions = arrays["correct"].shape[1:]
    rows = [_numbers(arrays, *cell) for cell in np.ndindex(n_points, n_positions)]
    numbers = pd.DataFrame(rows, columns=list(NUMBER_COLUMNS)).astype(NUMBER_COLUMNS)
    return pd.concat([_cells(result), numbers], axis=1)


def _image_rows(result: Result) -> "pd.DataFrame":
    """One row per image and cell: all cells of the first image, then those of the second, ..."""
    import pandas as pd

    arrays = result.arrays
    shape = arrays["correct"].shape
    n_images = shape[0]
    n_cells = shape[1] * shape[2]
    columns = {
        "index": np.repeat(arrays["indices"], n_cells),
        "label": np.repeat(arrays["label"], n_cells),
    }
    dtypes = dict(IMAGE_COLUMNS)
    extras = sorted(arrays.keys() - IMAGE_COLUMNS.keys())
    for name in (*IMAGE_COLUMNS, *extras):
        array = arrays.get(name)
        if array is not None and array.shape == shape:
            columns[name] = array.ravel()
            dtypes.setdefault(name, EXTRA_DTYPES[array.dtype.kind])
    images = pd.DataFrame(columns).astype(dtypes)
    cells = _cells(result).take(np.tile(np.arange(n_cells), n_images))
    return pd.concat([cells.reset_index(drop=True), images], axis=1)


def _cells(result: Result) -> "pd.DataFrame":
    """One row per cell: what it is of, but no numbers."""
    import pandas as pd

    arrays = result.arrays
    n_points, n_positions = arrays["correct"].shape[1:]
    eps = arrays.get("eps", np.full(n_points, np.nan))
    columns: dict[str, Any] = {key: result.attrs[key] for key in ATTRS}
    columns["eps"] = np.repeat(eps, n_positions)
    columns["eps_norm"] = result.attrs.get("eps_norm")
    columns["point"] = np.repeat(np.arange(n_points), n_positions)
    columns["steps"] = columns["measure"] = None
    if "steps" in arrays:
        columns["steps"] = np.tile(arrays["steps"], n_points)
    if "measure" in arrays:
        labels = measure_labels(result)
        columns["measure"] = [labels[index] for index in arrays["measure"]] * n_points
    dtypes = NETWORK_COLUMNS | ATTACK_COLUMNS | AXIS_COLUMNS | ORIGIN_COLUMNS
    return pd.DataFrame(columns, columns=list(dtypes)).astype(dtypes)


def _numbers(arrays: dict[str, np.ndarray], point: int, position: int) -> dict[str, Any]:
    """The numbers of the cell `[:, point, position]` of the arrays `[N, E, S]`."""
    correct = arrays["correct"][:, point, position].astype(bool)
    accuracy = accuracy_of(correct)
    distance = arrays["linf_distance"][:, point, position]
    row: dict[str, Any] = {
        "n": accuracy.n,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "mean_linf_distance": distance.mean(dtype=float),
    }
    if "status" in arrays:
        certified = certified_at(arrays, point, position)
        for name, images in (("certified", certified), ("undecided", correct & ~certified)):
            share = accuracy_of(images)
            row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    if "kendall_tau" in arrays:
        tau = rank_correlation_at(arrays, point, position)
        row |= {
            "tau": tau.value,
            "tau_n": tau.n,
            "tau_low": tau.low,
            "tau_high": tau.high,
            "tau_all": tau.value_all,
            "tau_all_low": tau.low_all,
            "tau_all_high": tau.high_all,
            "tau_undefined": tau.n_undefined,
        }
    if "is_valid" in arrays:
        is_valid = arrays["is_valid"][:, point, position]
        discrepancies = arrays["normalised_discrepancy"][is_valid, point, position]
        row["n_valid"] = len(discrepancies)
        if len(discrepancies):
            row["mean_normalised_discrepancy"] = discrepancies.mean(dtype=float)
    return row
