"""A wheel carries all that the commands need, and works from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from workflow_copy import ROOT

from irpipe import config as configs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    command += [str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode and "hatchling" in run.stderr:
        pytest.skip("pip cannot fetch the build backend here")
    assert run.returncode == 0, run.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def irpipe(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "irpipe", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_carries_the_configs_of_the_checkout(site: Path) -> None:
    shipped = {path.name: path.read_bytes() for path in (site / "irpipe/config/shipped").iterdir()}
    assert shipped == {path.name: path.read_bytes() for path in (ROOT / "config").iterdir()}
    assert configs.CONFIG_FOLDER == ROOT / "config"


def test_the_wheel_carries_every_file_of_the_package(site: Path) -> None:
    def files(package: Path) -> set[str]:
        paths = (path for path in package.rglob("*") if path.suffix not in (".pyc", ""))
        return {str(path.relative_to(package)) for path in paths}

    missing = files(ROOT / "src" / "irpipe") - files(site / "irpipe")
    assert missing == set()


def test_names_are_known_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    run = irpipe(site, tmp_path, "data", "--dataset", "digits", "--output", "d.json")
    assert run.returncode == 0, run.stderr
    assert run.stdout == "digits: 400 test images in data\nd.json\n"
    run = irpipe(site, tmp_path, "data", "--dataset", "none", "--output", "e.json")
    assert run.returncode == 2
    assert f"{site}/irpipe/config/shipped: datasets: no dataset 'none'" in run.stderr


NETWORK = """
import torchvision
from torch import nn

def mine():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
"""


def test_a_network_is_stressed_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    """The wheel has the names of attacks and what the page needs."""
    (tmp_path / "nets.py").write_text(NETWORK, encoding="utf-8")
    run = irpipe(
        site,
        tmp_path,
        *("stress", "--checkpoint", "./nets.py:mine", "--dataset", "digits", "--images", "4"),
        *("--attacks", "pgd", "--output", "o", "--device", "cpu"),
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "o" / "pgd.h5").is_file()
    assert (tmp_path / "o" / "report.html").is_file()
