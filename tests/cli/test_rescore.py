"""Saved adversarial images, and `irpipe rescore`, which trusts neither attack nor result."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from command_line import run, write_fitted_network
from made_results import make_result
from torch import Tensor, nn

from irpipe.datasets import Images, load
from irpipe.evaluation.saved_images import rescore, save_images
from irpipe.networks.load import load_for_attack
from irpipe.networks.network import Network
from irpipe.results.result import Result, read_result

PGD = "pgd={kind: pgd, steps: [1, 3], images: 20, batch_size: 8, eps: [0, 0.02, 0.2]}"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.safetensors and, in `o`, a stress test with its images."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoint = write_fitted_network(folder / "net.safetensors")
    network = ("--checkpoint", checkpoint, "--device", "cpu", "--output", folder / "o")
    assert run("stress", *network, "--save-images", "--attacks", PGD) == 0
    return folder


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def rescore_arrays(
    saved: Path, folder: Path, change: Callable[[dict[str, np.ndarray]], object]
) -> int:
    """The exit code of `irpipe rescore` on changed images."""
    arrays = arrays_of(saved / "o" / "images" / "pgd.npz")
    change(arrays)
    np.savez(folder / "changed.npz", allow_pickle=False, **arrays)
    network = ("--checkpoint", saved / "net.safetensors", "--device", "cpu")
    return run("rescore", folder / "changed.npz", *network)


def test_rescore_gives_the_accuracies_of_the_attack(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ("--checkpoint", saved / "net.safetensors", "--device", "cpu")
    assert run("rescore", saved / "o" / "images" / "pgd.npz", *network) == 0
    first, header, *rows, last = capsys.readouterr().out.splitlines()
    assert first == "eps bounds the linf norm of the change"
    assert header.split()[:4] == ["eps", "accuracy", "n", "max"]
    assert last == "all images lie in [0, 1] and within their eps of the test images"
    result = read_result(saved / "o" / "pgd.h5").arrays
    arrays = arrays_of(saved / "o" / "images" / "pgd.npz")
    clean = load({"kind": "digits"}, Path("unused"), "test").images[result["indices"]].numpy()
    for i, row in enumerate(rows):
        eps, accuracy, n, linf, l2, dtype = row.split()
        assert float(eps) == result["eps"][i]
        assert float(accuracy) == pytest.approx(result["correct"][:, i, -1].mean(), abs=5e-5)
        assert n == "20"
        images = arrays[f"images_{i}"]
        assert dtype == str(images.dtype)
        change = (images / (255 if dtype == "uint8" else 1) - clean).reshape(20, -1)
        assert float(linf) == pytest.approx(np.abs(change).max(), abs=1e-6)
        assert float(l2) == pytest.approx(np.linalg.norm(change, axis=1).max(), abs=1e-4)


def test_images_are_saved_before_an_attack_counts_as_finished(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = ("--checkpoint", saved / "net.safetensors", "--device", "cpu")
    command = ("stress", *network, "--output", saved / "o", "--save-images", "--attacks", PGD)
    path = saved / "o" / "images" / "pgd.npz"
    before = arrays_of(path)
    assert run(*command) == 0
    assert "pgd.h5: finished before" in capsys.readouterr().out
    path.unlink()
    assert run(*command) == 0
    assert "pgd.h5: finished before" not in capsys.readouterr().out
    after = arrays_of(path)
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def _move(arrays: dict[str, np.ndarray]) -> None:
    images = arrays["images_1"] / (255 if arrays["images_1"].dtype == np.uint8 else 1)
    arrays["images_1"] = images.astype(np.float32)
    arrays["images_1"][3, 0, 5, 5] = 1 - arrays["images_1"][3, 0, 5, 5].round()


def _spoil(arrays: dict[str, np.ndarray]) -> None:
    arrays["images_0"] = arrays["images_0"].astype(np.float32)
    arrays["images_0"][0, 0, 0, 0] = np.nan


def _repeat(arrays: dict[str, np.ndarray]) -> None:
    """Name the first image, and its label, twice."""
    for name in ("indices", "labels"):
        arrays[name][1] = arrays[name][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_move, "images lie outside [0, 1] or their eps, at eps 0.02"),
        (_spoil, "images lie outside [0, 1] or their eps, at eps 0"),
        (lambda arrays: arrays["labels"].__setitem__(0, 11), "labels are not those of the test"),
        (lambda arrays: arrays["indices"].__setitem__(0, 10**6), "indices are not different posit"),
        (_repeat, "indices are not different positions in a test set of 400 images"),
        (lambda arrays: arrays.update(indices=arrays["indices"] * 1.0), "no list of whole numbers"),
        (lambda arrays: arrays.update(eps=np.empty(0)), "eps is no list of numbers from 0"),
        (lambda arrays: arrays.update(eps=np.array(0.1)), "eps is no list of numbers from 0"),
        (lambda arrays: arrays.pop("images_2"), "not a readable archive of adversarial images"),
        (
            lambda arrays: arrays.update(images_2=arrays["images_2"][:5]),
            "images_2 is uint8 [5, 1, 28, 28], expected uint8 or float32 [20, 1, 28, 28]",
        ),
    ],
)
def test_false_evidence_is_refused(
    change: Callable[[dict[str, np.ndarray]], object],
    message: str,
    saved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert rescore_arrays(saved, tmp_path, change) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_damaged_file_is_refused(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is cut, its compressed images are changed in some places, or it is no archive."""
    content = (saved / "o" / "images" / "pgd.npz").read_bytes()
    changed = bytearray(content)
    changed[1500:4000:100] = bytes(25)
    np.save(tmp_path / "array.npy", np.ones(3))
    network = ("--checkpoint", saved / "net.safetensors", "--device", "cpu")
    for damaged in (content[:1000], changed, (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "d.npz").write_bytes(damaged)
        assert run("rescore", tmp_path / "d.npz", *network) == 2
        error = capsys.readouterr().err
        assert "not a readable archive of adversarial images" in error
        assert error.count("\n") == 1


class Brightness(nn.Module):
    """Class 1 for images whose mean is above `threshold`, else class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.head = nn.Parameter(torch.zeros(2, 1))

    def forward(self, images: Tensor) -> Tensor:
        excess = images.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-excess, excess], dim=1)


@pytest.mark.parametrize(("threshold", "dtype"), [(100.5, "uint8"), (101.2, "float32")])
def test_images_are_uint8_where_that_keeps_the_success(
    threshold: float, dtype: str, tmp_path: Path
) -> None:
    """All pixels have level 100, and the attack raises them to 101.5, within eps of 2 levels.

    Rounded towards 100 they are 101: still class 1 above 100.5, no longer above 101.2.
    """
    network = cast(Network, Brightness(threshold / 255))
    shape = (4, 1, 2, 2)
    test = Images(torch.full(shape, 100 / 255), torch.zeros(4, dtype=torch.int64))
    attacked = torch.full((1, *shape), 101.5 / 255)
    template = make_result("pgd", {}, [1], n=4)
    arrays = {
        "indices": np.arange(4),
        "eps": np.array([2 / 255]),
        "correct": np.zeros((4, 1, 1), bool),
    }
    result = Result(template.attrs, arrays)
    save_images(tmp_path / "i.npz", [attacked[:, :3], attacked[:, 3:]], result, network, test)
    (score,) = rescore(tmp_path / "i.npz", network, test, CPU)
    assert (score.dtype, score.n, score.n_correct, score.is_within) == (dtype, 4, 0, True)
    expected = 1 / 255 if dtype == "uint8" else 1.5 / 255
    assert score.linf == pytest.approx(expected, abs=1e-6)
    assert score.l2 == pytest.approx(2 * expected, abs=1e-6)


def test_another_network_is_scored_on_the_same_images(saved: Path, tmp_path: Path) -> None:
    other = load_for_attack(write_fitted_network(tmp_path / "n.safetensors", seed=3), CPU)
    test = load({"kind": "digits"}, Path("unused"), "test")
    scores = rescore(saved / "o" / "images" / "pgd.npz", other.network, test, CPU)
    indices = read_result(saved / "o" / "pgd.h5").arrays["indices"]
    prediction = other.network(test.images[indices]).argmax(dim=1)
    assert scores[0].n_correct == int((prediction == test.labels[indices]).sum())
