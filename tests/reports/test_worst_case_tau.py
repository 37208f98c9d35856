"""The table of what attacks on maps leave of each explanation, and the worst of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import make_map_result, read_rows

from irpipe.errors import IrpipeError
from irpipe.reports import worst_case_tau
from irpipe.results.result import Result


def make_aai(
    attack: str, tau: list[float], unchanged: range, correct: range, **attrs: Any
) -> Result:
    """A result of AAI whose images have the values of `tau` in turn."""
    result = make_map_result("int", 0.0, unchanged, correct)
    result.attrs.update(attack=attack, **attrs)
    result.arrays["kendall_tau"][:] = np.resize(tau, 200)[:, None, None]
    return result


def test_worst_is_the_lowest_of_each_image(tmp_path: Path) -> None:
    """The first attack leaves 0.8 and 0.4 in turn, the second 0.6.

    Ten images are misclassified under the first; a hundred change class under the second.
    """
    first = make_aai("a", [0.8, 0.4], range(200), range(10, 200))
    second = make_aai("b", [0.6], range(100), range(200))
    worst_case_tau.report([first, second], tmp_path / "e", title="T", attacks=["a", "b"])
    rows = {row["attack"]: row for row in read_rows(tmp_path / "e.csv")}
    means = {attack: float(row["value"]) for attack, row in rows.items()}
    assert means == pytest.approx({"a": 190 * 0.6 / 200, "b": 0.3, "worst": 90 * 0.5 / 200})
    lost = {attack: float(row["lost"]) for attack, row in rows.items()}
    assert lost == {"a": 0.05, "b": 0.5, "worst": 0.55}
    assert {row["method"] for row in rows.values()} == {"int"}
    assert float(rows["worst"]["low"]) < 0.225 < float(rows["worst"]["high"])
    assert "| Method | a | b | worst |" in (tmp_path / "e.md").read_text(encoding="utf-8")


def test_each_interpreter_has_its_own_subtable(tmp_path: Path) -> None:
    second = make_aai("b", [0.6], range(200), range(200))
    second.attrs["options"] = second.attrs["options"] | {"interpreter": "gradcampp"}
    first = make_aai("a", [0.8], range(200), range(200))
    worst_case_tau.report([first, second], tmp_path / "e", title="T", attacks=["a", "b"])
    text = (tmp_path / "e.md").read_text(encoding="utf-8")
    assert "| Method | a | worst |" in text
    assert "| Method | b | worst |" in text


def test_all_networks_need_the_same_attacks_images_and_eps(tmp_path: Path) -> None:
    both = [make_aai(attack, [0.8], range(200), range(200)) for attack in "ab"]
    other = make_aai("a", [0.5], range(200), range(200), method="adv")
    with pytest.raises(IrpipeError, match="found mnist/small/adv/released/a, but no result of 'b'"):
        worst_case_tau.report([*both, other], tmp_path / "e", title="T", attacks=["a", "b"])
    both[1].arrays["indices"] = np.arange(200)[::-1]
    with pytest.raises(IrpipeError, match="are of other images"):
        worst_case_tau.report(both, tmp_path / "e", title="T", attacks=["a", "b"])
    both[0].arrays["eps"] = both[0].arrays["eps"] + 0.5
    with pytest.raises(IrpipeError, match=r"int/released/a lacks ε = 0\.3"):
        worst_case_tau.report(both[:1], tmp_path / "e", title="T", attacks=["a"])
    assert not list(tmp_path.iterdir())
