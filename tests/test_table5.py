"""Table 5, its erratum and its figure, on results of known accuracy."""

import csv
from pathlib import Path

import numpy as np
import pytest

from irpipe import config
from irpipe.errors import IrpipeError
from irpipe.io import Result
from irpipe.reports import erratum, gallery, unforeseen

NAMES = ["gabor", "jpeg_l2"]


def made(name: str, method: str, accuracy: float, nan: int = 0, **options: object) -> Result:
    """A result of 200 images, 18 of class 0 at the end; `nan` of the first, and as many of the last, went astray."""
    kind, _, rest = name.partition("_")
    given = {"norm": rest} if kind == "jpeg" else {}
    spec = config.resolved("attacks", {"kind": kind, **given, **options}, name)
    eps = {"gabor": 400.0, "jpeg": 8.0}[kind]
    attrs = {"dataset": "cifar10", "model": "small", "method": method, "run": "released", "attack": name, "kind": kind}
    attrs |= {"code": "c0de", "network_sha256": "feed", "data_sha256": "beef", "nominal_radius": 8 / 255}
    arrays = {"eps": np.array([eps]), "steps": np.array([200]), "label": np.where(np.arange(200) < 182, 3, 0)}
    arrays["correct"] = (np.arange(200) < round(200 * accuracy))[:, None, None]
    arrays["prediction"] = np.where(arrays["correct"][:, 0, 0], arrays["label"], 5)[:, None, None]
    lost = np.zeros((200, 1, 1), bool)
    lost[:nan] = True
    lost[200 - nan :] = True
    arrays |= {"nan": lost, "radius": np.ones((200, 1, 1)), "corner": np.full((200, 1, 1), 0.875)}
    arrays["clean"] = np.random.default_rng(0).integers(256, size=(2, 1, 1, 3, 8, 8), dtype=np.uint8)
    arrays["picture"] = 255 - arrays["clean"]
    more = {"spec": spec, "network": {"data": {"kind": "cifar10"}}}
    return Result(attrs | more, arrays)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def both(method: str, gabor: float, jpeg: float, nan: int = 0) -> list[Result]:
    return [made("gabor", method, gabor), made("jpeg_l2", method, jpeg, nan)]


def test_cells_stand_beside_the_published_ones(tmp_path: Path) -> None:
    results = [*both("int_one_class", 0.2, 0.3), *both("adv", 0.255, 0.415), *both("normal", 0.125, 0)]
    paths = unforeseen.report(results, tmp_path / "out", title="Title", attacks=NAMES)
    assert [path.suffix for path in paths] == [".csv", ".md", ".tex", ".html"]
    found = records(paths[0])
    assert [(row["method"], row["attack"]) for row in found] == [
        (method, attack) for method in ("normal", "adv", "int_one_class") for attack in NAMES
    ]
    assert [(row["published"], row["mark"]) for row in found] == [
        ("0.125", ""),
        ("0.03", ""),  # off by .03, which is not more than .03
        ("0.19", "**"),
        ("0.38", "*"),
        ("", ""),
        ("", ""),
    ]
    assert (found[2]["value"], found[2]["difference"], found[2]["n"]) == ("0.255", "0.065", "200")
    assert (round(float(found[2]["low"]), 3), round(float(found[2]["high"]), 3)) == (0.2, 0.32)
    text = paths[1].read_text()
    assert "| Adv | 0.255\\*\\* [0.20, 0.32] (0.190) | 0.415\\* [0.35, 0.48] (0.380) |" in text
    assert "NaN:" not in text


def test_nan_iterates_are_scored_both_ways_and_shown(tmp_path: Path) -> None:
    # 6 correct images, 3 of them lost; of the 6 lost ones 3 are of class 0, which the released code has correct
    results = [made("jpeg_l2", "normal", 0.03, nan=3)]
    (row,) = records(unforeseen.report(results, tmp_path / "out", title="Title", attacks=["jpeg_l2"])[0])
    assert (row["value"], row["as_scored"], row["nan"], row["mark"]) == ("0.03", "0.03", "6", "")
    (row,) = records(
        unforeseen.report([made("jpeg_l2", "normal", 0, 15)], tmp_path / "b", title="", attacks=["jpeg_l2"])[0]
    )
    assert (row["value"], row["as_scored"], row["nan"], row["difference"]) == ("0.0", "0.075", "30", "-0.03")
    assert row["mark"] == "*"  # scored alike, .045 apart
    assert "30 NaN: as class 0 0.075" in (tmp_path / "b.md").read_text()


def test_other_settings_have_no_published_value(tmp_path: Path) -> None:
    for option in ({"variant": "fixed"}, {"step": "upstream"}, {"targeted": False}, {"iterate": "worst"}):
        results = [made("gabor", "adv", 0.19, **option)]
        (row,) = records(unforeseen.report(results, tmp_path / "out", title="", attacks=["gabor"])[0])
        assert (row["published"], row["value"]) == ("", "0.19")
        assert "| Method | gabor |" in (tmp_path / "out.md").read_text()  # its name, not the table's


def test_the_stronger_step_rule_is_named(tmp_path: Path) -> None:
    results = [made("gabor", "adv", 0.19), made("gabor_upstream", "adv", 0.125, step="upstream")]
    results += [made("gabor", "int", 0.1), made("gabor_upstream", "int", 0.1, step="upstream")]
    results += [made("gabor", "normal", 0.1), made("gabor_upstream", "normal", 0.105, step="upstream")]
    names = ["gabor", "gabor_upstream"]
    text = unforeseen.report(results, tmp_path / "out", title="", attacks=names)[1].read_text()
    assert "| Normal | released by 0.005 released 0.100, upstream 0.105 |" in text
    assert "| Adv | upstream by 0.065 released 0.190, upstream 0.125 |" in text
    assert "| Int | equal released 0.100, upstream 0.100 |" in text
    fixed = [made("gabor_upstream", "adv", 0.1, step="upstream", variant="fixed"), results[0]]
    assert "stronger" not in unforeseen.report(fixed, tmp_path / "b", title="", attacks=names)[1].read_text()


def test_reports_refuse_what_does_not_belong_together(tmp_path: Path) -> None:
    missing = [*both("adv", 0.2, 0.3), made("gabor", "int", 0.2)]
    for report in (unforeseen.report, gallery.report):
        with pytest.raises(
            IrpipeError, match=r"out: .*/int/released/gabor is there, but no result of 'jpeg_l2' on this"
        ):
            report(missing, tmp_path / "out", title="", attacks=NAMES)
    other = made("gabor", "adv", 0.2)
    other.attrs["kind"] = "pgd"
    with pytest.raises(IrpipeError, match="of kind 'pgd', which Table 5 does not have"):
        unforeseen.report([other], tmp_path / "out", title="", attacks=["gabor"])
    with pytest.raises(IrpipeError, match=r"adv/released/gabor keeps 2 images, not image 2"):
        gallery.report(both("adv", 0.2, 0.3), tmp_path / "out", title="", attacks=NAMES, image=2)
    assert not list(tmp_path.iterdir())


def test_erratum_of_table_5(tmp_path: Path) -> None:
    results = [*both("adv", 0.19, 0.38), *both("normal", 0.125, 0.01, nan=5)]
    results += [made("gabor_upstream", method, 0.1, step="upstream") for method in ("adv", "int_one_class")]
    paths = erratum.report(results, tmp_path / "out", title="", attacks=["gabor", "gabor_upstream", "jpeg_l2"])
    found = [(row["item"], row["what"], row["printed"], row["ours"], row["note"]) for row in records(paths[0])]
    corner = "the variable's range is [-1, 1]: every step jumps from corner to corner"
    nan = "10 of 200 iterates are NaN, those 5 of class 0 count as correct: 0.025"
    assert found == [
        ("Step size", "Gabor", "steps of 28.28", "88% of what moved ends in a corner", corner),
        ("Upstream's step", "Adv, Gabor", "0.190", "0.100", "stronger by 0.090"),
        ("NaN iterates", "Normal, JPEG ℓ2", "0.030", "0.010", nan),
    ]


def test_gallery_draws_every_network(tmp_path: Path) -> None:
    results = [*both("adv", 0.2, 0.3), *both("int", 0.2, 0.3)]
    paths = gallery.report(results, tmp_path / "out", title="Title", attacks=NAMES, image=1)
    assert {path.suffix for path in paths} == {".png", ".pdf", ".svg"}
    drawn = paths[[path.suffix for path in paths].index(".svg")].read_text()
    assert drawn.count("<image") == 2 * 3
    again = gallery.report(results[::-1], tmp_path / "b", title="Title", attacks=NAMES, image=1)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
