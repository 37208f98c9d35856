"""Figures: their files, what they cannot draw, and text that looks like mathematics."""

import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from made_results import ABOUT_AS_ROBUST, make_pgd_pair, make_result
from pgd_results import MNIST_EPS, make_cifar_result, make_pgd_result

from irpipe.errors import IrpipeError
from irpipe.reports import accuracy_curve, claims_figure, job_costs, training_cost, training_curves
from irpipe.results.result import Result

NO_MATHEMATICS = r"from $5 to $\undefined{"  # as mathematics, it has no end


def make_training_log(run: str, loss: list[float]) -> Result:
    attrs = {"dataset": "mnist", "model": "small", "method": "int", "run": run}
    attrs |= {"attack": "training", "kind": "training of int", "device": "cpu"}
    numbers = {"clean_accuracy": 0.9, "attacked_accuracy": 0.5, "eps": 0.3, "lr": 1e-3}
    arrays = {name: np.full(len(loss), value) for name, value in numbers.items()}
    arrays |= {"loss": np.array(loss), "epoch": np.arange(len(loss)), "seconds": np.array(loss)}
    return Result(attrs, arrays)


@pytest.mark.parametrize("sweep", ["eps", "steps"])
def test_curve_is_drawn_as_png_pdf_and_svg(sweep: Literal["eps", "steps"], tmp_path: Path) -> None:
    results = [
        make_pgd_result([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], MNIST_EPS),
        make_cifar_result([0.7, 0.6, 0.5, 0.4, 0.3], "small", "int"),
    ]
    png, pdf, svg = accuracy_curve.report(results, tmp_path / "robustness", title="T", sweep=sweep)
    assert (png.name, pdf.name, svg.name) == ("robustness.png", "robustness.pdf", "robustness.svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    assert svg.read_text(encoding="utf-8").count("<svg ") == 1


def test_curve_names_what_it_cannot_draw(tmp_path: Path) -> None:
    message = r"mnist/small/int/released/pgd was not evaluated at 50 steps"
    with pytest.raises(IrpipeError, match=message):
        accuracy_curve.report([make_pgd_result([0.5], [0.3])], tmp_path / "c", title="T", steps=50)
    message = r"mnist/small/int/released/pgd was not evaluated at ε = 0.3"
    with pytest.raises(IrpipeError, match=message):
        accuracy_curve.report(
            [make_pgd_result([0.5], [0.2])], tmp_path / "c", title="T", sweep="steps"
        )


def test_a_dollar_in_a_title_is_no_mathematics(tmp_path: Path) -> None:
    curve = accuracy_curve.report(
        [make_pgd_result([0.5], [0.3])], tmp_path / "c", title=NO_MATHEMATICS
    )
    assert f"<!-- {NO_MATHEMATICS} -->" in curve[2].read_text(encoding="utf-8")
    logs = [make_training_log("seed0", [2.0, 0.5])]
    curves = training_curves.report(logs, tmp_path / "t", title=NO_MATHEMATICS)
    assert f"<!-- {NO_MATHEMATICS} -->" in curves[2].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("loss", "ticks"), [([20.0, 0.2], ["0.3", "1", "3", "10"]), ([1.8, 1.3], ["1.4", "1.6"])]
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(
    loss: list[float], ticks: list[str], tmp_path: Path
) -> None:
    logs = [make_training_log("seed0", loss)]
    svg = training_curves.report(logs, tmp_path / "t", title="T")[2].read_text(encoding="utf-8")
    assert "mathdefault" not in svg
    for tick in ticks:
        assert f"<!-- {tick} -->" in svg


@pytest.mark.parametrize(("accuracy", "is_said"), [(np.nan, True), (0.5, False)])
def test_training_curves_say_that_no_image_was_held_out(
    accuracy: float, is_said: bool, tmp_path: Path
) -> None:
    log = make_training_log("seed0", [1.0, 0.5])
    log.arrays["clean_accuracy"][:] = log.arrays["attacked_accuracy"][:] = accuracy
    svg = training_curves.report([log], tmp_path / "t", title="T")[2].read_text(encoding="utf-8")
    assert svg.count("<!-- no held-out images -->") == 2 * is_said


def test_training_cost_shows_the_first_network_of_a_method(tmp_path: Path) -> None:
    logs = [make_training_log("seed0", [2.0, 4.0]), make_training_log("seed1", [9.0, 9.0])]
    results = [
        make_pgd_result([0.9] * 6, MNIST_EPS, run="seed0"),
        make_pgd_result([0.1] * 6, MNIST_EPS, run="released"),
    ]
    svg = training_cost.report([*logs, *results], tmp_path / "c", title="T")[2].read_text(
        encoding="utf-8"
    )
    assert "<!-- on cpu -->" in svg
    assert "<!-- accuracy, 200 steps, -->" in svg
    assert "<!-- ε = 0.3 -->" in svg


@pytest.mark.parametrize(("runs", "are_named"), [(["seed0"], False), (["seed0", "seed1"], True)])
def test_a_single_run_has_no_entry_in_the_legend(
    tmp_path: Path, runs: list[str], are_named: bool
) -> None:
    results = [make_pgd_result([0.9], [0.3], run=run) for run in runs]
    svg = accuracy_curve.report(results, tmp_path / "c", title="T")[2].read_text(encoding="utf-8")
    assert "<!-- Int -->" in svg
    assert all((f"<!-- {run} -->" in svg) is are_named for run in runs)


def test_figures_name_what_they_lack(tmp_path: Path) -> None:
    result = make_pgd_result([0.5], [0.3])
    with pytest.raises(IrpipeError, match=r"t: expected training logs .*; found none"):
        training_curves.report([result], tmp_path / "t", title="T")
    with pytest.raises(IrpipeError, match=r"t: expected training logs .* of mnist/small"):
        training_cost.report([result], tmp_path / "t", title="T")
    with pytest.raises(IrpipeError, match="t: expected the folder of Snakemake's benchmark files"):
        job_costs.report([result], tmp_path / "t", title="T")


def test_figure_of_the_claims_has_equal_bytes(tmp_path: Path) -> None:
    results = [
        *make_pgd_pair("int", range(158), range(150)),
        *make_pgd_pair("adv", range(178), range(176)),
    ]
    attacks = ["pgd", "margin_pgd"]
    first = claims_figure.report(results, tmp_path / "a" / "v", title="V", attacks=attacks)
    second = claims_figure.report(results, tmp_path / "b" / "v", title="V", attacks=attacks)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert f"<!-- {ABOUT_AS_ROBUST.text} -->" in first[2].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("runs", "labels"),
    [
        (["released", "seed0"], ["MNIST, Small", "MNIST, Small, from scratch"]),
        (["seed0", "seed1"], ["MNIST, Small, seed0", "MNIST, Small, seed1"]),
    ],
)
def test_figure_of_the_claims_has_each_claim_once_and_names_its_networks(
    runs: list[str], labels: list[str], tmp_path: Path
) -> None:
    results = [
        Result(result.attrs | {"run": run}, result.arrays)
        for run in runs
        for method in ("int", "adv")
        for result in make_pgd_pair(method, range(158), range(150))
    ]
    attacks = ["pgd", "margin_pgd"]
    _, _, svg = claims_figure.report(results, tmp_path / "v", title="V", attacks=attacks)
    texts = re.findall("<!-- (.*) -->", svg.read_text(encoding="utf-8"))
    assert texts.count(ABOUT_AS_ROBUST.text) == 1
    assert [text for text in texts if text.startswith("MNIST")] == labels


@pytest.mark.parametrize(("kind", "is_marked"), [("pgd", True), ("margin_pgd", False)])
def test_published_values_are_marked_on_the_papers_attack_alone(
    kind: str, is_marked: bool, tmp_path: Path
) -> None:
    result = make_result(kind, {}, [200])
    accuracy_curve.report([result], tmp_path / "f", title="T", attack=kind, steps=200)
    text = (tmp_path / "f.svg").read_text(encoding="utf-8")
    assert ("<!-- published -->" in text) is is_marked
