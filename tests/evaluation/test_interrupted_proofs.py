"""An evaluation that was interrupted in the middle of its proofs ends with the same bytes."""

from pathlib import Path

import numpy as np
import pytest
from command_line import evaluate, write_fitted_network

from irpipe.certification import certify
from irpipe.certification.image_proof import ImageProof
from irpipe.results.result import read_result

CERTIFY = "certify={kind: certify, images: 4, eps: [0.004, 0.03], leaves: 30}"
INTERRUPTED = 130  # the exit code


class Interrupt:
    """In the place of the search for one image: end the process after `n` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
        self.left = n
        self.run = certify._ImageSearch.run

        def run(*args: object) -> ImageProof:
            return self(*args)

        monkeypatch.setattr(certify._ImageSearch, "run", run)

    def __call__(self, *args: object) -> ImageProof:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.run(*args)  # type: ignore[arg-type]


def test_it_goes_on_with_the_next_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = write_fitted_network(tmp_path / "network.safetensors")
    assert evaluate(network, CERTIFY, tmp_path / "whole.h5") == 0
    whole = read_result(tmp_path / "whole.h5").arrays
    path = tmp_path / "resumed.h5"
    with monkeypatch.context() as patch:
        Interrupt(patch, 6)
        assert evaluate(network, CERTIFY, path) == INTERRUPTED
    first, second, *others = sorted((tmp_path / ".state").rglob("*.proof"))
    assert (len(others), path.exists()) == (4, False)
    # Two files are damaged: their images are searched again, as are the two that were not.
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(b"")
    with monkeypatch.context() as patch:
        interrupt = Interrupt(patch, 4)
        assert evaluate(network, CERTIFY, path) == 0
    assert interrupt.left == 0
    resumed = read_result(path).arrays
    del whole["seconds"]
    assert (resumed.pop("seconds") > 0).all()
    assert whole.keys() == resumed.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)
    assert list((tmp_path / ".state").iterdir()) == []


def test_other_options_do_not_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = write_fitted_network(tmp_path / "network.safetensors")
    for leaves in (1, 2):
        entry = f"certify={{kind: certify, images: 2, eps: 0.001, leaves: {leaves}}}"
        with monkeypatch.context() as patch:
            Interrupt(patch, 1)
            assert evaluate(network, entry, tmp_path / "certify.h5") == INTERRUPTED
    assert [len(list(folder.iterdir())) for folder in (tmp_path / ".state").iterdir()] == [1, 1]
