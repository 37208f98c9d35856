"""`irpipe verify` checks stored certificates again, and finds what was changed in them."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import evaluate, run, write_fitted_network

from irpipe.certification.certificate import Certificate
from irpipe.certification.status import Status
from irpipe.results.packed_bytes import pack, unpack
from irpipe.results.result import Result, read_result, write_result

CERTIFY = "certify={kind: certify, images: 6, eps: [0, 0.004, 0.3], leaves: 1}"
# Changes the arrays of a result.
Change = Callable[[dict[str, np.ndarray]], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network and the result of certify on it."""
    folder = tmp_path_factory.mktemp("certified")
    network = write_fitted_network(folder / "network.safetensors")
    assert evaluate(network, CERTIFY, folder / "certify.h5") == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of `made`, to change."""
    shutil.copytree(made, tmp_path / "results")
    return tmp_path / "results"


def verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of `irpipe verify`, and what it printed."""
    capsys.readouterr()
    code = run("verify", folder)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def rewrite(folder: Path, change: Change) -> None:
    """Change the arrays of the result, with a new checksum."""
    result = read_result(folder / "certify.h5")
    change(result.arrays)
    write_result(folder / "certify.h5", result)


def certificates(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The bytes of each certificate, `[N, E, S]`; none where an image is not certified."""
    items = np.full(arrays["certificate_size"].shape, b"", dtype=object)
    for cell, packed in unpack(arrays["certificate"], arrays["certificate_size"]):
        items[cell] = packed
    return items


def store(arrays: dict[str, np.ndarray], items: np.ndarray) -> None:
    arrays["certificate"], arrays["certificate_size"] = pack(items)


def first_certified(arrays: dict[str, np.ndarray]) -> tuple[int, int]:
    """Row and position in the test set of the first image that is certified at .004."""
    row = int((arrays["status"][:, 1, 0] == Status.CERTIFIED).argmax())
    return row, int(arrays["indices"][row])


def test_certified_images_alone_have_certificates_and_all_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = read_result(folder / "certify.h5").arrays
    is_certified = arrays["status"] == Status.CERTIFIED
    assert is_certified.sum(axis=0).ravel().tolist()[::2] == [0, 0]
    assert 1 < is_certified[:, 1].sum() < 7
    assert ((arrays["certificate_size"] > 0) == is_certified).all()
    code, text = verify(folder, capsys)
    assert code == 0
    assert f"certify.h5: {is_certified.sum()} certificates checked again in float64" in text


def count_as_certified(arrays: dict[str, np.ndarray]) -> None:
    row, _ = first_certified(arrays)
    arrays["status"][row, 2] = Status.CERTIFIED
    arrays["correct"][row, 2] = True


def exchange(arrays: dict[str, np.ndarray]) -> None:
    """Give the first certified image the certificate of the next one."""
    items = certificates(arrays)
    rows = np.flatnonzero(arrays["certificate_size"][:, 1, 0])
    items[rows[0], 1, 0] = items[rows[1], 1, 0]
    store(arrays, items)


def claim_more_eps(arrays: dict[str, np.ndarray]) -> None:
    arrays["eps"][1] = 0.005


def claim_a_larger_margin(arrays: dict[str, np.ndarray]) -> None:
    arrays["margin_lower_bound"][first_certified(arrays)[0], 1] += 1e-4


def flip_a_bit(arrays: dict[str, np.ndarray]) -> None:
    arrays["certificate"][200] ^= 1


def change_the_label(arrays: dict[str, np.ndarray]) -> None:
    row, _ = first_certified(arrays)
    arrays["label"][row] = (arrays["label"][row] + 1) % 10


def drop_a_size(arrays: dict[str, np.ndarray]) -> None:
    arrays["certificate"] = arrays["certificate"][:-1]


def make_multipliers_nan(arrays: dict[str, np.ndarray]) -> None:
    """Make the bound of the last target NaN, which no comparison finds."""
    items = certificates(arrays)
    row, _ = first_certified(arrays)
    certificate = Certificate.from_bytes(items[row, 1, 0])
    *others, proof = certificate.proofs
    n_places, n_entries = len(proof.place), proof.dual1.shape[1]
    nan = dataclasses.replace(
        proof, E=np.full((n_places, n_entries), np.nan), D=np.zeros((n_places, 100))
    )
    items[row, 1, 0] = dataclasses.replace(certificate, proofs=(*others, nan)).to_bytes()
    store(arrays, items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (count_as_certified, "at eps 0.3: is certified without a certificate, or the reverse"),
        (exchange, "at eps 0.004: certificate"),
        (claim_more_eps, "at eps 0.005: certificate: is for eps 0.004, which is less than 0.005"),
        (claim_a_larger_margin, "at eps 0.004: the certificate proves a margin of "),
        (flip_a_bit, "at eps 0.004: "),
        (change_the_label, "at eps 0.004: has label "),
        (make_multipliers_nan, "at eps 0.004: the certificate proves a margin of -inf"),
    ],
)
def test_what_was_changed_is_named(
    change: Change, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, index = first_certified(read_result(folder / "certify.h5").arrays)
    rewrite(folder, change)
    code, text = verify(folder, capsys)
    assert code == 2
    assert f"{folder}/certify.h5: image {index} {message}" in text.splitlines()[-1]


def test_sizes_must_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(folder, drop_a_size)
    code, text = verify(folder, capsys)
    assert code == 2
    assert "bytes, but their sizes add up to" in text


def test_another_network_next_to_a_result_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = (folder / "network.safetensors").read_bytes()
    write_fitted_network(folder / "network.safetensors", seed=2)
    code, text = verify(folder, capsys)
    assert code == 2
    assert f"{folder}/network.safetensors has " in text
    # The network counts by its content, wherever it lies below the folder.
    (folder / "mine.safetensors").write_bytes(original)
    code, text = verify(folder, capsys)
    assert (code, "checked again in float64" in text) == (0, True)


def test_what_cannot_be_checked_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_result(folder / "certify.h5")
    other_data = Result(result.attrs | {"data_sha256": "beef"}, result.arrays)
    write_result(folder / "certify.h5", other_data)
    code, text = verify(folder, capsys)
    assert (code, "certificates not checked, because data has another" in text) == (0, True)
    (folder / "network.safetensors").unlink()
    code, text = verify(folder, capsys)
    assert (code, "certificates not checked, because no network below" in text) == (0, True)
