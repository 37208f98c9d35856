"""Table 5, its errata and its figure, on results of known accuracy."""

import csv
from pathlib import Path

import numpy as np
import pytest

from irpipe import config
from irpipe.errors import IrpipeError
from irpipe.reports import attack_gallery, errata_table, unforeseen_table
from irpipe.results.result import Result

NAMES = ["gabor", "jpeg_l2"]


def result_of(name: str, method: str, accuracy: float, n_nan: int = 0, **options: object) -> Result:
    """A result on 200 images. The first are correct; the last 18 are of class 0.

    `n_nan` of the first images have NaN iterates, and as many of the last.
    """
    kind, _, norm = name.partition("_")
    entry = {"kind": kind, **options}
    if kind == "jpeg":
        entry["norm"] = norm
    attrs = {
        "dataset": "cifar10",
        "model": "small",
        "method": method,
        "run": "released",
        "attack": name,
        "kind": kind,
        "options": config.resolve_named("attacks", entry, name),
        "class_names": [f"class {index}" for index in range(10)],
        "checkpoint_metadata": {"data": {"kind": "cifar10"}},
        "code_hash": "c0de",
        "seed": 99,
        "device": "cpu",
        "network_sha256": "feed",
        "data_sha256": "beef",
        "train_eps": 8 / 255,
    }
    label = np.where(np.arange(200) < 182, 3, 0)
    correct = np.arange(200) < round(200 * accuracy)
    is_nan = np.zeros(200, bool)
    is_nan[:n_nan] = True
    is_nan[200 - n_nan :] = True
    images = np.random.default_rng(0).integers(256, size=(2, 1, 1, 3, 8, 8), dtype=np.uint8)
    arrays = {
        "eps": np.array([{"gabor": 400.0, "jpeg": 8.0}[kind]]),
        "steps": np.array([200]),
        "indices": np.arange(200),
        "label": label,
        "loss": np.zeros((200, 1, 1)),
        "correct": correct[:, None, None],
        "prediction": np.where(correct, label, 5)[:, None, None],
        "nan": is_nan[:, None, None],
        "linf_distance": np.ones((200, 1, 1)),
        "boundary_share": np.full((200, 1, 1), 0.875),
        "clean_uint8": images,
        "adversarial_uint8": 255 - images,
    }
    return Result(attrs, arrays)


def both_results(method: str, gabor: float, jpeg: float, n_nan: int = 0) -> list[Result]:
    return [result_of("gabor", method, gabor), result_of("jpeg_l2", method, jpeg, n_nan)]


def records(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_cells_have_the_published_values_next_to_them(tmp_path: Path) -> None:
    results = [
        *both_results("int_one_class", 0.2, 0.3),
        *both_results("adv", 0.255, 0.415),
        *both_results("normal", 0.125, 0),
    ]
    paths = unforeseen_table.report(results, tmp_path / "out", title="Title", attacks=NAMES)
    assert [path.suffix for path in paths] == [".csv", ".parquet", ".md", ".tex", ".html"]
    rows = records(tmp_path / "out.csv")
    assert [(row["method"], row["attack"]) for row in rows] == [
        (method, attack) for method in ("normal", "adv", "int_one_class") for attack in NAMES
    ]
    assert [(row["published"], row["mark"]) for row in rows] == [
        ("0.125", ""),
        ("0.03", ""),  # the difference is 0.03, which is not more than 0.03
        ("0.19", "**"),
        ("0.38", "*"),
        ("", ""),
        ("", ""),
    ]
    row = rows[2]
    assert (row["value"], row["difference"], row["n"]) == ("0.255", "0.065", "200")
    assert (round(float(row["low"]), 3), round(float(row["high"]), 3)) == (0.2, 0.32)
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "| Adv | 0.255\\*\\* [0.20, 0.32] (0.190) | 0.415\\* [0.35, 0.48] (0.380) |" in text
    assert "NaN:" not in text


def test_nan_iterates_are_scored_both_ways_and_shown(tmp_path: Path) -> None:
    def only_row(result: Result, name: str) -> dict[str, str]:
        unforeseen_table.report([result], tmp_path / name, title="Title", attacks=["jpeg_l2"])
        (row,) = records(tmp_path / f"{name}.csv")
        return row

    # 6 images are correct, 3 of them NaN. Of the 6 NaN, 3 are of class 0, so they count as correct.
    row = only_row(result_of("jpeg_l2", "normal", 0.03, n_nan=3), "few")
    assert (row["value"], row["as_scored"], row["nan"], row["mark"]) == ("0.03", "0.03", "6", "")
    row = only_row(result_of("jpeg_l2", "normal", 0, n_nan=15), "many")
    assert (row["value"], row["as_scored"], row["nan"]) == ("0.0", "0.075", "30")
    assert row["difference"] == "-0.03"
    assert row["mark"] == "*"  # as the released code scores it, the difference is 0.045
    assert "30 NaN: as class 0 0.075" in (tmp_path / "many.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "option",
    [
        {"variant": "fixed"},
        {"step_rule": "advex_uar"},
        {"targeted": False},
        {"iterate": "worst"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_other_settings_have_no_published_value(option: dict[str, object], tmp_path: Path) -> None:
    results = [result_of("gabor", "adv", 0.19, **option)]
    unforeseen_table.report(results, tmp_path / "out", title="", attacks=["gabor"])
    (row,) = records(tmp_path / "out.csv")
    assert (row["published"], row["value"]) == ("", "0.19")
    # The title is the attack's name, not that of Table 5.
    assert "| Method | gabor |" in (tmp_path / "out.md").read_text(encoding="utf-8")


def test_the_stronger_step_rule_is_named(tmp_path: Path) -> None:
    def advex_uar(method: str, accuracy: float, **options: object) -> Result:
        return result_of("gabor_advex_uar", method, accuracy, step_rule="advex_uar", **options)

    released = result_of("gabor", "adv", 0.19)
    results = [
        released,
        advex_uar("adv", 0.125),
        result_of("gabor", "int", 0.1),
        advex_uar("int", 0.1),
        result_of("gabor", "normal", 0.1),
        advex_uar("normal", 0.105),
    ]
    names = ["gabor", "gabor_advex_uar"]
    unforeseen_table.report(results, tmp_path / "out", title="", attacks=names)
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "| Normal | released by 0.005 released 0.100, advex-uar 0.105 |" in text
    assert "| Adv | advex-uar by 0.065 released 0.190, advex-uar 0.125 |" in text
    assert "| Int | equal released 0.100, advex-uar 0.100 |" in text
    # These two differ in their variant, too, so that they are not compared.
    others = [advex_uar("adv", 0.1, variant="fixed"), released]
    unforeseen_table.report(others, tmp_path / "b", title="", attacks=names)
    assert "stronger" not in (tmp_path / "b.md").read_text(encoding="utf-8")


def test_reports_refuse_results_that_do_not_belong_together(tmp_path: Path) -> None:
    output = tmp_path / "out"
    incomplete = [*both_results("adv", 0.2, 0.3), result_of("gabor", "int", 0.2)]
    for report in (unforeseen_table.report, attack_gallery.report):
        with pytest.raises(
            IrpipeError,
            match=r"out: found .*/int/released/gabor, but no result of 'jpeg_l2' on this",
        ):
            report(incomplete, output, title="", attacks=NAMES)
    other = result_of("gabor", "adv", 0.2)
    other.attrs["kind"] = "pgd"
    with pytest.raises(IrpipeError, match="of kind 'pgd', which Table 5 does not have"):
        unforeseen_table.report([other], output, title="", attacks=["gabor"])
    with pytest.raises(IrpipeError, match=r"adv/released/gabor stores 2 images, not image 2"):
        attack_gallery.report(
            both_results("adv", 0.2, 0.3), output, title="", attacks=NAMES, image=2
        )
    assert not list(tmp_path.iterdir())


def test_errata_of_table_5(tmp_path: Path) -> None:
    results = [
        *both_results("adv", 0.19, 0.38),
        *both_results("normal", 0.125, 0.01, n_nan=5),
        result_of("gabor_advex_uar", "adv", 0.1, step_rule="advex_uar"),
        result_of("gabor_advex_uar", "int_one_class", 0.1, step_rule="advex_uar"),
    ]
    names = ["gabor", "gabor_advex_uar", "jpeg_l2"]
    errata_table.report(results, tmp_path / "out", title="", attacks=names)
    rows = [
        (row["item"], row["what"], row["published"], row["measured"], row["note"])
        for row in records(tmp_path / "out.csv")
    ]
    share = "88% of the changed entries end at a boundary"
    step = "the variable's range is [-1, 1]: a step crosses it"
    nan = "10 of 200 iterates are NaN; the 5 of class 0 count as correct: 0.025"
    assert rows == [
        ("Step size", "Gabor", "steps of 28.28", share, step),
        ("Step of advex-uar", "Adv, Gabor", "0.190", "0.100", "stronger by 0.090"),
        ("NaN iterates", "Normal, JPEG ℓ2", "0.030", "0.010", nan),
    ]


def test_the_gallery_draws_every_network(tmp_path: Path) -> None:
    results = [*both_results("adv", 0.2, 0.3), *both_results("int", 0.2, 0.3)]
    paths = attack_gallery.report(results, tmp_path / "out", title="Title", attacks=NAMES, image=1)
    assert {path.suffix for path in paths} == {".png", ".pdf", ".svg"}
    (svg,) = (path for path in paths if path.suffix == ".svg")
    assert svg.read_text(encoding="utf-8").count("<image") == 2 * 3
    again = attack_gallery.report(
        results[::-1], tmp_path / "b", title="Title", attacks=NAMES, image=1
    )
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
