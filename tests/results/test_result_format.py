"""The files of every kind of attack, and the others, are as docs/result_format.md lists them."""

import csv
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import RECIPE, evaluate, run, write_fitted_network
from made_once import made_once
from made_results import make_map_result, make_pgd_pair
from map_networks import make_aai_result
from pgd_results import MNIST_EPS, make_pgd_result
from result_format import (
    array_rows,
    attribute_types,
    columns,
    names_in_first_column,
    range_faults,
    section,
    shape_faults,
)

from irpipe.config.kinds import kinds
from irpipe.networks.checkpoint import read_checkpoint
from irpipe.results.result import Result, read_result

EPS = "eps: [0, 0.1, 0.2, 0.3]"
STRENGTHS = "eps: [0.1, 0.2, 0.3, 0.4], save_examples: 2, steps: 1"
# Options that make each kind cheap, with axes of different lengths: 3 images, 4 eps, 2 steps.
OPTIONS = {
    "aai": f"{EPS}, steps: 1",
    "autoattack": f"{EPS}, steps: 1, n_queries: 2",
    "certify": "eps: [0, 0.002, 0.1, 0.3], leaves: 100",  # at .002 there are certificates
    "certify_maps": "eps: [0, 0.01], restarts: 1, steps: 2",
    "certify_top_k": "eps: [0, 0.01], restarts: 1, steps: 2, top_k: 5",
    "fog": STRENGTHS,
    "gabor": STRENGTHS,
    "isa": "eps_multipliers: [1.2, 1.6], steps: 1, binary_search_steps: 2",
    "jpeg": STRENGTHS,
    "margin_pgd": f"{EPS}, steps: [1, 2], restarts: 1",
    "pgd": f"{EPS}, steps: [1, 2]",
    "pgd_maps": "steps: 1, ig_steps: 2",
    "proposition1": "eps_multipliers: [1.2]",
    "snow": STRENGTHS,
    "transfer": f"{EPS}, steps: 1, surrogates: [SURROGATE]",
    "untargeted": f"{STRENGTHS}, targeted: false",
}
RELEASED_ONLY = {"source", "file", "file_sha256"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A small result of each kind of attack, and of an untargeted unforeseen attack."""

    def make(folder: Path) -> None:
        network = write_fitted_network(folder / "net.safetensors")
        surrogate = write_fitted_network(folder / "other.safetensors", seed=2, method="adv")
        for name, options in OPTIONS.items():
            kind = "fog" if name == "untargeted" else name
            entry = f"{name}={{kind: {kind}, images: 3, batch_size: 3, {options}}}"
            entry = entry.replace("SURROGATE", str(surrogate))
            assert evaluate(network, entry, folder / f"{name}.h5") == 0

    folder = made_once(tmp_path_factory, "format", make)
    return {name: read_result(folder / f"{name}.h5") for name in OPTIONS}


def test_every_kind_is_tested() -> None:
    assert sorted(OPTIONS.keys() - {"untargeted"}) == kinds("attacks")


@pytest.mark.parametrize("name", OPTIONS)
def test_arrays_are_as_documented(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    assert len(array_rows(result.attrs["kind"])) > len(array_rows("every kind"))
    assert shape_faults(result) == []
    assert range_faults(result) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_attributes_are_as_documented(name: str, results: dict[str, Result]) -> None:
    types = attribute_types()
    if name != "transfer":
        del types["surrogates_sha256"]
    if name not in ("pgd", "margin_pgd", "autoattack"):
        del types["eps_norm"]
    attrs = results[name].attrs
    assert attrs.keys() == types.keys()
    assert [key for key, value in attrs.items() if not isinstance(value, types[key])] == []


def test_the_files_of_a_training_are_as_documented(tmp_path: Path) -> None:
    network = ("--dataset", "digits", "--model", "small", "--method", "normal")
    recipe = RECIPE.replace("200", "600").replace("epochs: 2", "epochs: 1")
    path = tmp_path / "net.safetensors"
    assert run("train", *network, "--recipe", recipe, "--device", "cpu", "--output", path) == 0
    documented = set(names_in_first_column(section("## Checkpoints"))) - RELEASED_ONLY
    assert read_checkpoint(path).metadata.keys() | {"content_sha256"} == documented
    with path.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file))
    assert header == names_in_first_column(section("## Training logs"))


def test_metadata_of_released_networks_are_documented() -> None:
    text = section("## Checkpoints")
    for name in RELEASED_ONLY:
        assert f"| `{name}` | string | released |" in text


def test_data_records_are_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "digits.json"
    assert run("data", "--dataset", "digits", "--output", path) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert list(record) == names_in_first_column(section("## Data records"))


def made_by_hand() -> list[Result]:
    """Results of PGD, of margin PGD and of AAI, on networks of two methods."""
    results = []
    for method in ("int", "adv"):
        results += make_pgd_pair(method, range(150), range(140))
        results.append(make_map_result(method, 0.5, range(150), range(150)))
    return [*results, make_aai_result([0.5] * 4, [90] * 4)]


# Kinds of tables with a CSV file, and their options.
TABLES: dict[str, dict[str, Any]] = {
    "accuracy_table": {"attack": "pgd", "steps": 200},
    "certified_maps_table": {},
    "claims_table": {"attacks": ["pgd", "margin_pgd"]},
    "cross_check": {},
    "errata_table": {},
    "isa_table": {},
    "masking_table": {"attacks": ["pgd", "margin_pgd"]},
    "paired_tests": {"steps": 200},
    "tau_table": {},
    "unforeseen_table": {"attacks": ["gabor", "snow", "jpeg", "fog"]},
    "worst_case_tau": {"attacks": ["aai0"]},
}


@pytest.mark.parametrize("kind", TABLES)
def test_columns_of_tables_are_as_documented(
    kind: str, results: dict[str, Result], tmp_path: Path
) -> None:
    inputs = made_by_hand()
    if kind in ("certified_maps_table", "cross_check", "isa_table", "unforeseen_table"):
        inputs = list(results.values())
    elif kind == "errata_table":
        inputs = [make_pgd_result([0.8] * len(MNIST_EPS), MNIST_EPS)]
    report = importlib.import_module(f"irpipe.reports.{kind}").report
    path = report(inputs, tmp_path / "table", title="T", **TABLES[kind])[0]
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file))
    assert header == columns(kind)
