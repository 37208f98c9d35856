"""Tables and curves with proofs: rows and band by hand, what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import EPS, make_proofs, make_result, read_rows
from matplotlib.figure import Figure

from irpipe.errors import IrpipeError
from irpipe.reports import _bracket_curves, accuracy_curve, accuracy_table
from irpipe.results.result import Result
from irpipe.results.select import select_with_proofs

OPTIONS: dict[str, Any] = {"title": "T", "attack": "margin_pgd", "steps": 100}
# At eps 0.3, the attack leaves 120 of 200 images and the search 130; 100 are certified.
PROOFS = {0.3: (100, 130)}


def attack(**attrs: Any) -> Result:
    return make_result("margin_pgd", {(0.3, 100): range(120)}, [1, 100], **attrs)


def cells(path: Path, eps: str = "0.3") -> dict[tuple[str, str], dict[str, str]]:
    """The records of a table at one eps, by run and metric."""
    rows = [row for row in read_rows(path) if row["eps"] == eps]
    return {(row["run"], row["metric"]): row for row in rows}


def test_certified_and_undecided_stand_below_attacked(tmp_path: Path) -> None:
    paths = accuracy_table.report([make_proofs(PROOFS), attack()], tmp_path / "t", **OPTIONS)
    records = cells(paths[0])
    values = {metric: (row["value"], row["n"]) for (_, metric), row in records.items()}
    assert values == {
        "accuracy": ("0.6", "200"),
        "certified": ("0.5", "200"),
        "undecided": ("0.1", "200"),
    }
    certified = records["released", "certified"]
    assert (certified["low"], certified["high"]) == ("0.431361", "0.568639")  # Wilson
    assert (certified["attack"], certified["steps"]) == ("certify", "6000")
    lines = paths[2].read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| Int")]
    assert [row.split(" | ")[0] for row in rows] == [
        "| Int, attacked",
        "| Int, certified",
        "| Int, undecided",
    ]
    assert rows[1].endswith("| 0.500 [0.43, 0.57] |")
    assert "lies between certified" in lines[-1]


def test_without_proofs_a_table_is_as_before(tmp_path: Path) -> None:
    paths = accuracy_table.report([attack()], tmp_path / "t", **OPTIONS)
    text = paths[2].read_text(encoding="utf-8")
    assert "| Int | " in text
    assert "certified" not in text


def test_without_an_attack_the_search_is_the_attack(tmp_path: Path) -> None:
    paths = accuracy_table.report([make_proofs(PROOFS)], tmp_path / "t", **OPTIONS)
    values = {metric: row["value"] for (_, metric), row in cells(paths[0]).items()}
    assert values == {"accuracy": "0.65", "certified": "0.5", "undecided": "0.15"}
    text = paths[2].read_text(encoding="utf-8")
    assert "MNIST, Small, 6000 leaves, n = 200" in text
    assert "| Int, attacked by the search for proofs |" in text


def test_an_eps_without_proofs_has_a_dash(tmp_path: Path) -> None:
    proofs = make_proofs(PROOFS)
    proofs.arrays["eps"] = np.array([0, 0.05, 0.1, 0.2, 0.25])
    paths = accuracy_table.report([proofs, attack()], tmp_path / "t", **OPTIONS)
    row = cells(paths[0])["released", "certified"]
    assert (row["value"], row["n"]) == ("nan", "0")
    assert "n = 200**" in paths[2].read_text(encoding="utf-8")


def test_seeds_have_the_mean_of_each_metric(tmp_path: Path) -> None:
    results = [attack(run=run) for run in ("seed0", "seed1")]
    results += [make_proofs(PROOFS, run="seed0"), make_proofs({0.3: (80, 130)}, run="seed1")]
    paths = accuracy_table.report(results, tmp_path / "t", **OPTIONS)
    means = {key: row["value"] for key, row in cells(paths[0]).items() if key[0] == "mean of 2"}
    assert means == {
        ("mean of 2", "accuracy"): "0.6",
        ("mean of 2", "certified"): "0.45",
        ("mean of 2", "undecided"): "0.15",
    }


def draw(results: list[Result], sweep: str = "eps") -> Figure:
    groups = select_with_proofs(results, "margin_pgd", None, "t")
    return _bracket_curves.draw_brackets(groups, "t", "T", sweep, 100)


@pytest.mark.parametrize(("sweep", "x"), [("eps", EPS), ("steps", [1, 100])])
def test_the_band_lies_between_certified_and_attacked(sweep: str, x: list[float]) -> None:
    """At one step, the attack leaves all of the 130 that the search leaves."""
    figure = draw([attack(), make_proofs(PROOFS)], sweep)
    (panel,) = figure.axes
    attacked, certified = panel.lines[:2]
    expected = [1, 1, 1, 1, 0.6] if sweep == "eps" else [0.65, 0.6]
    assert list(attacked.get_ydata()) == expected
    assert list(attacked.get_xdata()) == x
    assert list(certified.get_ydata()) == ([1, 1, 1, 1, 0.5] if sweep == "eps" else [0.5, 0.5])
    _, band = panel.collections
    corners = band.get_paths()[0].vertices
    assert {0.5, 0.6} <= set(corners[:, 1])
    assert band.get_hatch() == _bracket_curves.HATCH
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:3] == [
        "attacked: not broken by margin_pgd or the search for proofs",
        "certified: no attack can break it",
        "undecided",
    ]
    assert len(labels) == len(set(labels))


def test_each_method_has_a_panel_and_each_model_a_row(tmp_path: Path) -> None:
    methods = ("normal", "adv", "trades", "int", "int_adv")
    results = [attack(method=method) for method in methods]
    results += [make_proofs(PROOFS, method=method) for method in methods]
    results.append(attack(model="pool"))
    titles = [axis.get_title() for axis in draw(results).axes]
    assert titles == [
        *(f"MNIST, Small\n{name}" for name in ("Normal", "Adv", "TRADES", "Int", "Int-Adv")),
        "MNIST, Pool\nInt",
    ]
    accuracy_curve.report(results, tmp_path / "c", **OPTIONS)
    assert (tmp_path / "c.png").stat().st_size


def other_images() -> Result:
    proofs = make_proofs(PROOFS)
    proofs.arrays["indices"] = proofs.arrays["indices"] + 1
    return proofs


@pytest.mark.parametrize(
    ("proofs", "options", "message"),
    [
        ([other_images()], {}, r"^t: \S+/certify and \S+/margin_pgd are of other images; "),
        (
            [make_proofs({})],
            {},
            r"image 120: .* certifies it at eps 0.3, but ",
        ),
        (
            [make_proofs(PROOFS), make_proofs(PROOFS, attack="more")],
            {},
            r"^t: found \S+/certify and \S+/more; name the attack of one of them in the option",
        ),
        ([], {"certify": ["more"]}, r"^t: expected results of more, of kind certify; found none"),
    ],
)
@pytest.mark.parametrize("kind", [accuracy_table, accuracy_curve])
def test_what_does_not_fit_is_refused_in_one_line(
    kind: Any, proofs: list[Result], options: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(IrpipeError, match=message) as error:
        kind.report([attack(), *proofs], tmp_path / "t", **OPTIONS, **options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_one_of_two_results_with_proofs_can_be_named(tmp_path: Path) -> None:
    results = [attack(), make_proofs({}), make_proofs(PROOFS, attack="more"), attack(method="adv")]
    paths = accuracy_table.report(results, tmp_path / "t", certify=["more"], **OPTIONS)
    assert cells(paths[0])["released", "certified"]["value"] == "0.5"
    assert {row["method"] for row in read_rows(paths[0])} == {"int"}  # Adv has no proofs
