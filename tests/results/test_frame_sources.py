"""What to_frame reads and refuses, its columns, and what it costs."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_results import EPS, make_isa_result, make_map_result, make_result

from irpipe.errors import IrpipeError
from irpipe.results import to_frame
from irpipe.results.result import Result, read_result, write_result
from irpipe.results.training_log import write_training_log


def test_files_folders_and_results_may_be_mixed(tmp_path: Path) -> None:
    """Rows have the order of the arguments and, in a folder, of the paths."""
    write_result(tmp_path / "b" / "pgd.h5", make_result("pgd", {}, [1, 2]))
    write_result(tmp_path / "a.h5", make_map_result("int", 0.5, range(9), range(9)))
    write_result(tmp_path / "b" / "c" / "square.h5", make_result("autoattack", {}, [5]))
    file = tmp_path / "b" / "pgd.h5"
    frame = to_frame([make_result("margin_pgd", {}, [1]), str(file), tmp_path])
    assert frame.attack.unique().tolist() == ["margin_pgd", "pgd", "aai0", "autoattack"]
    # The file is named twice and counts once.
    assert (frame.attack == "pgd").sum() == 2 * len(EPS)
    pd.testing.assert_frame_equal(to_frame(file), to_frame([read_result(file)]))


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IrpipeError, match="to_frame: no results; expected result files"):
        to_frame([])
    with pytest.raises(IrpipeError, match=f"{re.escape(str(tmp_path))}: no result files"):
        to_frame(tmp_path)
    with pytest.raises(IrpipeError, match=r"missing\.h5: no such file"):
        to_frame(tmp_path / "missing.h5")


def test_training_logs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "training_log.csv"
    keys = ("dataset", "model", "method", "run", "device", "code_hash")
    write_training_log(path, dict.fromkeys(keys, "x"), [{"epoch": 1.0}])
    with pytest.raises(IrpipeError, match=r"training_log\.csv: not the result of an attack"):
        to_frame([path])
    log = Result({"dataset": "mnist", "attack": "training"}, {"epoch": np.ones(1)})
    with pytest.raises(IrpipeError, match="mnist/training: not the result of an attack"):
        to_frame([log])


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    write_result(tmp_path / "cut.h5", make_result("pgd", {}, [1]))
    content = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[:-1])
    with pytest.raises(IrpipeError, match=r"cut\.h5: cut short or damaged") as error:
        to_frame(tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "cut.h5").write_text("no result", encoding="utf-8")
    with pytest.raises(IrpipeError, match=r"cut\.h5: not a readable irpipe result"):
        to_frame(tmp_path)


def test_results_of_another_version_are_named(tmp_path: Path) -> None:
    result = make_result("pgd", {}, [1])
    del result.arrays["loss"]
    write_result(tmp_path / "old.h5", result)
    with pytest.raises(IrpipeError, match=r"old\.h5: .*it has no array 'loss'; evaluate it again"):
        to_frame(tmp_path)
    del result.attrs["train_eps"]
    with pytest.raises(IrpipeError, match=r"int/released/pgd: .* no attribute 'train_eps'"):
        to_frame(result)


def test_columns_and_dtypes() -> None:
    frame = to_frame([make_result("pgd", {}, [1]), make_isa_result()])
    text = ("dataset", "model", "method", "run", "attack", "kind", "eps_norm", "measure")
    text += ("network_sha256", "data_sha256", "code_hash", "device")
    integers = {"seed": "int64", "point": "int64", "n": "int64"}
    integers |= dict.fromkeys(("steps", "tau_n", "tau_undefined", "n_valid"), "Int64")
    expected = dict.fromkeys(text, "string") | integers
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        name: expected.get(name, "float64") for name in frame
    }
    assert list(frame) == [
        *("dataset", "model", "method", "run", "attack", "kind", "seed"),
        *("eps", "eps_norm", "point", "steps", "measure"),
        *("n", "accuracy", "accuracy_low", "accuracy_high"),
        *("certified", "certified_low", "certified_high"),
        *("undecided", "undecided_low", "undecided_high", "mean_linf_distance"),
        *("tau", "tau_n", "tau_low", "tau_high", "tau_all", "tau_all_low", "tau_all_high"),
        *("tau_undefined", "mean_normalised_discrepancy", "n_valid"),
        *("network_sha256", "data_sha256", "code_hash", "train_eps", "device"),
    ]
    assert frame.iloc[0][["network_sha256", "data_sha256", "code_hash", "device"]].tolist() == [
        *("feed", "beef", "c0de", "cpu")
    ]
    assert (frame.train_eps == 0.3).all()
    assert (frame.seed == 99).all()


def test_extra_columns_of_images_keep_their_type() -> None:
    """An array that another kind does not have is missing there, and makes no integer a float."""
    first = make_isa_result()
    first.arrays["target"] = np.full((4, 2, 2), 7)
    frame = to_frame([first, make_result("pgd", {}, [1], n=3)], per_image=True)
    assert str(frame.target.dtype) == "Int64"
    assert str(frame.is_valid.dtype) == "boolean"
    assert str(frame.correct.dtype) == "bool"
    assert frame.target[:16].tolist() == [7] * 16
    assert frame.target[16:].isna().all()
    assert list(frame)[-5:] == ["network_sha256", "data_sha256", "code_hash", "train_eps", "device"]


def test_importing_results_is_cheap() -> None:
    script = "import sys, irpipe.results; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"pandas", "torch", "matplotlib", "scipy"} & set(done.stdout.split())


@pytest.mark.parametrize("per_image", [False, True])
def test_ten_thousand_images_take_seconds(per_image: bool) -> None:
    result = make_result("margin_pgd", {}, [1, 10, 50, 100], n=10_000)
    start = time.process_time()
    frame = to_frame(result, per_image=per_image)
    assert time.process_time() - start < 5
    assert len(frame) == 4 * len(EPS) * (10_000 if per_image else 1)
