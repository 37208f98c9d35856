"""`only` cuts a config down to some networks, and to the tables and figures that show them."""

from typing import Any

import pytest

from irpipe import config
from irpipe.config.only import keep_only
from irpipe.config.yaml_reader import read_yaml
from irpipe.errors import IrpipeError

RELEASED = read_yaml(config.CONFIG_FOLDER / "released.yaml")


def cut(only: str) -> dict[str, Any]:
    return keep_only(config.validate(RELEASED | {"only": only}))


def names(kept: dict[str, Any]) -> list[str]:
    return [
        f"{entry['dataset']}/{entry['model']}/{method}"
        for entry in kept["networks"]
        for method in entry["methods"]
    ]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("mnist/small/int,adv", ["mnist/small/adv", "mnist/small/int"]),
        (
            "*/small/int mnist/pool/trades",
            ["mnist/small/int", "mnist/pool/trades", "cifar10/small/int"],
        ),
    ],
)
def test_selected_networks_stay_in_their_order(only: str, expected: list[str]) -> None:
    assert names(cut(only)) == expected


def test_parts_that_are_left_out_select_all() -> None:
    assert len(names(cut("mnist"))) == 16
    assert len(names(cut("cifar10,mnist/small"))) == 16
    assert cut("* *") == config.validate(RELEASED | {"only": "* *"})


def test_tables_of_attacks_that_no_longer_run_go() -> None:
    kept = cut("mnist/small/int")
    assert {"2", "3", "4", "5"} <= kept["tables"].keys()
    assert not {"1", "A5"} & kept["tables"].keys()
    assert {"1", "A5"} <= cut("mnist cifar10/small")["tables"].keys()


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("mnist/smal", "no model 'smal'"),
        ("minst", "no data set 'minst'"),
        ("mnist/small/int/released", "expected DATASET/MODEL/METHOD; found 'mnist/small/int/rel"),
        ("cifar10/pool", "selects none of the config's networks"),
        ("", "selects none of the config's networks"),
    ],
)
def test_a_selection_of_nothing_is_one_line(only: str, message: str) -> None:
    with pytest.raises(IrpipeError, match=rf"\Aconfig\.only: {message}.*\Z"):
        cut(only)


def test_a_table_goes_with_the_proofs_that_it_names() -> None:
    """The table of `certified_200` is about Adv, Int and others, of which Normal is none."""
    assert "certified_200" in cut("mnist/small/int")["tables"]
    kept = cut("mnist/small/normal")
    assert "pgd" in kept["networks"][0]["attacks"]
    assert "certified_200" not in kept["tables"]


def test_the_check_of_proofs_goes_with_the_proofs() -> None:
    networks = [
        {"dataset": "digits", "model": "small", "methods": ["a"], "attacks": ["pgd", "proof"]},
        {"dataset": "digits", "model": "small", "methods": ["b"], "attacks": ["pgd", "square"]},
    ]
    raw = {
        "datasets": {"digits": {"kind": "digits"}},
        "attacks": {
            "pgd": {"kind": "pgd"},
            "proof": {"kind": "certify"},
            "square": {"kind": "autoattack", "attacks_to_run": ["square"]},
        },
        "networks": [
            entry | {"released_files": {entry["methods"][0]: "file.pkl"}} for entry in networks
        ],
    }
    with_proofs = keep_only(config.validate(raw | {"only": "*/*/a"}))
    assert with_proofs["tables"]["cross_check"]["attacks"] == ["pgd", "proof"]
    assert not keep_only(config.validate(raw | {"only": "*/*/b"}))["tables"]
