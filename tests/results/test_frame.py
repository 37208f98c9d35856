"""Results as one tidy DataFrame: numbers by hand, and against numpy on results of real attacks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_batches import DIGIT_SHAPE, make_network
from made_results import EPS, FALLING, make_isa_result, make_map_result, make_proofs, make_result

from irpipe import config
from irpipe.datasets import Images, load
from irpipe.evaluation import evaluate_network
from irpipe.networks.folded import FoldedNetwork
from irpipe.networks.load import LoadedNetwork
from irpipe.reports import accuracy_table, isa_table, tau_table, unforeseen_table
from irpipe.results import to_frame
from irpipe.results.result import Result, read_result, write_result

N_IMAGES = 6
# One attack of each kind whose results have other axes or arrays.
ATTACKS: dict[str, dict[str, Any]] = {
    "aai": {"eps": [0, 0.1, 0.3], "steps": 2},
    "certify": {"eps": [0, 0.008, 0.1], "leaves": 1},
    "gabor": {"eps": [10.0, 20.0], "steps": 2},
    "isa": {
        "eps_multipliers": [1.5, 2],
        "class_sets": ["one", "all"],
        "steps": 3,
        "binary_search_steps": 3,
    },
    "pgd": {"eps": [0, 0.1], "steps": [1, 3]},
    "pgd_maps": {"steps": 2, "ig_steps": 2},
    "proposition1": {"eps_multipliers": [2]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One result of each of ATTACKS, on a network with random weights and images of digits.

    For `certify`, which leaves misclassified images alone, the network's predictions are true.
    """
    network = make_network(1, DIGIT_SHAPE, 10)
    metadata = {
        "dataset": "digits",
        "data": {"kind": "digits", "train_eps": 0.1},
        "model": "small",
        "method": "int",
        "run": "seed0",
    }
    loaded = LoadedNetwork(network, FoldedNetwork(network, DIGIT_SHAPE), metadata, "feed")
    folder = tmp_path_factory.mktemp("results")
    digits = load({"kind": "digits"}, Path("unused"), "test")
    predicted = Images(digits.images, network(digits.images).argmax(dim=1))
    for kind, options in ATTACKS.items():
        entry = {"kind": kind, "images": N_IMAGES, "batch_size": N_IMAGES} | options
        resolved = config.resolve_named("attacks", entry, "test")
        device = torch.device("cpu")
        test = predicted if kind == "certify" else digits
        result = evaluate_network(loaded, f"my_{kind}", resolved, test, device, "c0de")
        write_result(folder / "digits" / "small" / f"{kind}.h5", result)
    return folder


def read(folder: Path, kind: str) -> Result:
    return read_result(folder / "digits" / "small" / f"{kind}.h5")


# --- numbers by hand


def test_accuracy_and_its_interval_by_hand() -> None:
    """40 of 200 images are correct; the bounds p solve |0.2 - p| = z sqrt(p (1 - p) / 200)."""
    result = make_result("pgd", FALLING, [1, 100])
    result.arrays["linf_distance"][:, EPS.index(0.3), 1] = [0.3] * 100 + [0] * 100
    frame = to_frame(result)
    assert len(frame) == len(EPS) * 2
    row = frame[(frame.eps == 0.3) & (frame.steps == 100)].iloc[0]
    assert row.n == 200
    assert row.accuracy == 0.2
    for bound in (row.accuracy_low, row.accuracy_high):
        z = abs(0.2 - bound) / np.sqrt(bound * (1 - bound) / 200)
        assert z == pytest.approx(1.959964, abs=1e-6)
    assert row.accuracy_low < 0.2 < row.accuracy_high
    assert row.mean_linf_distance == pytest.approx(0.15)


def test_certified_and_undecided_shares_by_hand() -> None:
    """At eps 0.3, 100 of 200 images are certified and 20 undecided; at 0, 190 are correct."""
    proofs = make_proofs({0.0: (0, 190), 0.3: (100, 120)})
    frame = to_frame([proofs, make_result("pgd", FALLING, [1, 100])])
    row = frame[(frame.eps == 0.3) & (frame.kind == "certify")].iloc[0]
    assert (row.certified, row.undecided, row.accuracy) == (0.5, 0.1, 0.6)
    # Wilson: (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.959964
    assert (row.certified_low, row.certified_high) == pytest.approx((0.431361, 0.568639), abs=1e-6)
    assert (row.undecided_low, row.undecided_high) == pytest.approx((0.065670, 0.149406), abs=1e-6)
    clean = frame[(frame.eps == 0) & (frame.kind == "certify")].iloc[0]
    assert (clean.certified, clean.undecided) == (0.95, 0)
    assert frame.certified[frame.kind == "pgd"].isna().all()
    images = to_frame(proofs, per_image=True)
    status = images.status[images.eps == 0.3]
    assert status.tolist() == [1] * 100 + [2] * 20 + [3] * 80


def test_tau_by_hand() -> None:
    """Of 200 images, 100 keep their prediction; 20 of these have no tau and 40 have 0.2, 40 0.8."""
    result = make_map_result("int", 0.2, range(100), range(200))
    at = EPS.index(0.1)
    result.arrays["tau_defined"][:20, at] = False
    result.arrays["kendall_tau"][:20, at] = 0
    result.arrays["kendall_tau"][60:100, at] = 0.8
    frame = to_frame([result])
    row = frame[frame.eps == 0.1].iloc[0]
    assert row.tau_n == 80
    assert row.tau == pytest.approx(0.5)
    assert row.tau_all == pytest.approx(0.5 * 80 / 200)
    # Standard errors of the two means are 0.3 / sqrt(80) and 0.31 / sqrt(200).
    assert (row.tau_low, row.tau_high) == pytest.approx((0.434, 0.566), abs=0.01)
    assert (row.tau_all_low, row.tau_all_high) == pytest.approx((0.157, 0.243), abs=0.01)


def test_discrepancy_by_hand() -> None:
    frame = to_frame(make_isa_result())
    assert frame.point.tolist() == [0, 0, 1, 1]
    assert frame.measure.tolist() == ["l1 two", "l2 two"] * 2
    assert frame.n_valid.tolist() == [0, 2, 0, 0]
    assert frame.mean_normalised_discrepancy[1] == 5
    assert frame.mean_normalised_discrepancy.isna().tolist() == [True, False, True, True]
    assert frame.eps.isna().all()
    assert frame.steps.isna().all()


# --- real attacks


@pytest.mark.parametrize("kind", ATTACKS)
def test_rows_equal_the_arrays(folder: Path, kind: str) -> None:
    arrays = read(folder, kind).arrays
    frame = to_frame(folder)
    frame = frame[frame.kind == kind]
    n_points, n_positions = arrays["correct"].shape[1:]
    assert len(frame) == n_points * n_positions
    assert (frame.n == N_IMAGES).all()
    for (point, position), row in zip(
        np.ndindex(n_points, n_positions), frame.itertuples(), strict=True
    ):
        cell = (slice(None), point, position)
        assert row.point == point
        assert row.accuracy == arrays["correct"][cell].mean()
        distance = arrays["linf_distance"][cell].astype(float).mean()
        assert row.mean_linf_distance == pytest.approx(distance, rel=1e-12)
        if "eps" in arrays:
            assert row.eps == arrays["eps"][point]
        else:
            assert np.isnan(row.eps)
        assert row.steps is pd.NA if "measure" in arrays else row.steps == arrays["steps"][position]
        if kind == "aai":
            counts = arrays["prediction_unchanged"][cell] & arrays["tau_defined"][cell]
            assert row.tau_n == counts.sum()
            assert row.tau_all == pytest.approx((arrays["kendall_tau"][cell] * counts).mean())
        else:
            assert np.isnan(row.tau_all)
        if kind == "isa":
            assert row.n_valid == arrays["is_valid"][cell].sum()


def test_measures_are_named(folder: Path) -> None:
    frame = to_frame(folder).groupby("kind", sort=False).measure.unique()
    assert list(frame["isa"]) == ["l1 one", "l1 all", "l2 one", "l2 all"]
    assert list(frame["proposition1"]) == ["l1 two"]
    assert list(frame["pgd"]) == [pd.NA]


@pytest.mark.parametrize("kind", ATTACKS)
def test_image_rows_equal_the_arrays(folder: Path, kind: str) -> None:
    """All arrays `[N, E, S]` are columns; those with more axes, such as maps, are not."""
    arrays = read(folder, kind).arrays
    shape = arrays["correct"].shape
    frame = to_frame(folder, per_image=True)
    frame = frame[frame.kind == kind]
    assert len(frame) == arrays["correct"].size
    for name, array in arrays.items():
        if array.shape == shape:
            column = frame[name].to_numpy(array.dtype).reshape(shape)
            np.testing.assert_array_equal(column, array, err_msg=name)
        else:
            assert name not in frame or array.ndim == 1
    n_cells = shape[1] * shape[2]
    assert frame["index"].tolist() == np.repeat(arrays["indices"], n_cells).tolist()
    assert frame.label.tolist() == np.repeat(arrays["label"], n_cells).tolist()
    assert frame.point.tolist() == np.repeat(np.arange(shape[1]), shape[2]).tolist() * N_IMAGES


def test_image_rows_have_the_means_of_the_table(folder: Path) -> None:
    keys = ["attack", "point", "steps", "measure"]
    cells = to_frame(folder)
    images = to_frame(folder, per_image=True)
    means = images.groupby(keys, dropna=False, sort=False).correct.mean()
    assert means.tolist() == cells.accuracy.tolist()
    assert [str(attack) for attack in cells.attack.unique()] == [f"my_{kind}" for kind in ATTACKS]


# --- tables

TABLES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "pgd_eps": (accuracy_table, {"attack": "my_pgd", "steps": 3}, 2),
    "pgd_steps": (accuracy_table, {"attack": "my_pgd", "sweep": "steps"}, 2),
    "certify": (accuracy_table, {"attack": "my_certify"}, 9),  # three shares at three eps
    "aai": (tau_table, {"attack": "my_aai"}, 2),
    "gabor": (unforeseen_table, {"attacks": ["my_gabor"]}, 2),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_the_numbers_of_the_frame(name: str, folder: Path, tmp_path: Path) -> None:
    report, options, n_rows = TABLES[name]
    frame = to_frame(result := read(folder, name.partition("_")[0]))
    table = pd.read_csv(report.report([result], tmp_path / "t", title="T", **options)[0])
    assert len(table) == n_rows
    for row in table.itertuples():
        (cell,) = frame[(frame.eps == row.eps) & (frame.steps == row.steps)].to_dict("records")
        name, n = ("tau", "tau_n") if row.metric == "kendall_tau" else (row.metric, "n")
        expected = [cell[name], cell[f"{name}_low"], cell[f"{name}_high"], cell[n]]
        assert [row.value, row.low, row.high, row.n] == pytest.approx(
            expected, abs=5e-7, nan_ok=True
        )


def test_the_result_of_certify_has_images_of_each_status(folder: Path) -> None:
    frame = to_frame(read(folder, "certify")).set_index("eps")
    assert (frame.certified * N_IMAGES).tolist() == pytest.approx([6, 5, 0])
    assert (frame.undecided * N_IMAGES).tolist() == pytest.approx([0, 1, 0])


def test_the_scores_of_table_1_follow_from_the_frame(tmp_path: Path) -> None:
    """C.5-7: NDS is the mean of the running minima of all images whose discrepancy falls.

    They are 15, 13 | 11, 9 | 7, 5 in l1, one less in l2. The last image has one point."""
    result = make_isa_result()
    discrepancies = np.arange(15.0, -1, -1).reshape(4, 2, 2)
    result.arrays["normalised_discrepancy"] = discrepancies
    result.arrays["linf_distance"][:] = [[0.1], [0.2]]
    result.arrays["is_valid"] = (discrepancies < 2) | (discrepancies > 3)
    result.arrays["gamma_capped"] = np.zeros((4, 2, 2), bool)
    images = to_frame(result, per_image=True).query("is_valid")
    images["minimum"] = images.groupby(["measure", "index"]).normalised_discrepancy.cummin()
    minima = images.groupby(["measure", "index"]).minimum
    images = images[minima.transform("first") > minima.transform("last")]
    assert images.groupby("measure").minimum.mean().tolist() == [10, 9]
    table = pd.read_csv(isa_table.report([result], tmp_path / "t", title="T")[0])
    assert table.nds.tolist() == [10, 9]
