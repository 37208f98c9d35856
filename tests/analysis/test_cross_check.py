"""Nothing may break an image that is certified; what does is named."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from made_results import EPS, make_result, read_rows
from workflow_copy import CONFIG

from irpipe import config
from irpipe.analysis.cross_check import cross_check
from irpipe.certification.status import Status
from irpipe.errors import IrpipeError
from irpipe.reports import cross_check as report_kind
from irpipe.results.result import Result, write_result

N = 4


def make_proofs(certified: dict[int, float], **attrs: Any) -> Result:
    """A result of certify on 4 images, in which those of `certified` are certified up to an eps."""
    result = make_result("certify", {}, [6000], n=N, **attrs)
    status = np.full((N, len(EPS), 1), int(Status.UNDECIDED))
    for image, eps in certified.items():
        status[image, np.array(EPS) <= eps] = Status.CERTIFIED
    status[:, 0] = 0
    result.arrays["status"] = status
    return result


def make_attack(broken: dict[int, tuple[float, float]], **attrs: Any) -> Result:
    """A result of PGD in which those of `broken`, image -> (eps, distance), are misclassified."""
    result = make_result("pgd", {}, [10], n=N, **attrs)
    result.arrays["linf_distance"] += np.array(EPS)[:, None]
    for image, (eps, distance) in broken.items():
        point = EPS.index(eps)
        result.arrays["correct"][image, point] = False
        result.arrays["linf_distance"][image, point] = distance
    return result


def test_what_agrees_is_counted() -> None:
    # Image 0 is certified up to .1, image 2 up to .2, and broken only beyond.
    proofs = make_proofs({0: 0.1, 2: 0.2})
    attack = make_attack({0: (0.2, 0.1 + 2e-6), 1: (0.05, 0.05), 2: (0.3, 0.25)})
    of_itself, of_attack = cross_check([attack, proofs])[::-1]
    assert (of_itself.attack["attack"], of_attack.attack["attack"]) == ("certify", "pgd")
    assert {of_itself.n_certified, of_attack.n_certified} == {2}
    # eps 0, .05, .1 of image 0 and 0, .05, .1, .2 of image 2
    assert of_attack.n_within == 3 + 4


@pytest.mark.parametrize(
    ("eps", "distance"),
    [(0.1, 0.1), (0.1, 0.1 + 9e-7), (0.05, 0.02), (0.3, 0.07), (0.0, 0.0)],
)
def test_an_image_that_is_certified_and_broken_is_an_error(
    eps: float, distance: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(tmp_path / "proofs.h5", make_proofs({2: 0.1}))
    write_result(tmp_path / "attack.h5", make_attack({1: (0.05, 0.01), 2: (eps, distance)}))
    assert run("verify", tmp_path) == 2
    assert capsys.readouterr().err == (
        f"irpipe verify: error: mnist/small/int/released, image 2: {tmp_path}/proofs.h5 "
        f"certifies it at eps 0.1, but {tmp_path}/attack.h5 misclassifies it at eps {eps:g}, "
        f"at an l-inf distance of {distance:.6g}; one of the two is wrong\n"
    )


def test_images_are_matched_by_their_position_in_the_test_set() -> None:
    attack = make_attack({1: (0.1, 0.1)})
    attack.arrays["indices"] = np.array([7, 2, 3, 1])
    with pytest.raises(IrpipeError, match="small/int/released, image 2: "):
        cross_check([make_proofs({2: 0.1}), attack])
    # The result of certify has the clean images at all five eps.
    assert [c.n_within for c in cross_check([make_proofs({1: 0.1}), attack])] == [5, 3]


@pytest.mark.parametrize("attr", ["network_sha256", "data_sha256"])
def test_other_networks_and_test_sets_are_not_compared(attr: str) -> None:
    attack = make_attack({2: (0.1, 0.1)}, **{attr: "other"})
    (comparison,) = cross_check([make_proofs({2: 0.1}), attack])
    assert comparison.attack["attack"] == "certify"


def test_proofs_are_checked_against_each_other_and_themselves() -> None:
    proofs = make_proofs({2: 0.3})
    proofs.arrays["correct"][2, EPS.index(0.2)] = False
    with pytest.raises(IrpipeError, match=r"at eps 0.3, but .*/certify misclassifies"):
        cross_check([proofs])


def test_the_table_has_a_row_per_attack(tmp_path: Path) -> None:
    results = [
        make_proofs({0: 0.1}),
        make_attack({1: (0.1, 0.1)}),
        make_attack({}, attack="left_out"),
    ]
    path, *_ = report_kind.report(results, tmp_path / "t", title="T", attacks=["certify", "pgd"])
    rows = [(row["proof"], row["attack"], row["n_within"]) for row in read_rows(path)]
    assert rows == [("certify", "certify", "5"), ("certify", "pgd", "3")]
    with pytest.raises(IrpipeError, match="t: expected a result of kind 'certify'; found none"):
        report_kind.report(results, tmp_path / "t", title="T", attacks=["pgd"])


def test_what_is_no_result_of_an_attack_is_named() -> None:
    attack = make_attack({})
    del attack.arrays["linf_distance"]
    with pytest.raises(IrpipeError, match="it has no array 'linf_distance'; evaluate it again"):
        cross_check([attack])


def test_a_config_with_proofs_checks_them() -> None:
    entries = copy.deepcopy(CONFIG)
    assert "cross_check" not in config.validate(entries)["tables"]
    entries["attacks"] |= {"certify": {"kind": "certify"}, "unused": {"kind": "gabor"}}
    assert "cross_check" not in config.validate(entries)["tables"]
    entries["networks"][0]["attacks"] = ["pgd", "certify"]
    added = config.validate(entries)["tables"]["cross_check"]
    assert added == {
        "kind": "cross_check",
        "title": "Proofs against attacks",
        "attacks": ["certify", "pgd"],
    }
    entries["tables"]["mine"] = {"kind": "cross_check", "title": "Mine"}
    tables = config.validate(entries)["tables"]
    assert "cross_check" not in tables
    assert tables["mine"] == added | {"title": "Mine"}
    del entries["tables"]["mine"]
    entries["tables"]["cross_check"] = entries["tables"]["steps"]
    with pytest.raises(IrpipeError, match=r"tables.cross_check: this is the name of the check"):
        config.validate(entries)
