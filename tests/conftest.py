"""Real data for the tests that need it: `IRPIPE_SHARED`, else the folder `shared` beside the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project, copied

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch is loaded


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `datasets/` and `released/`; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("IRPIPE_SHARED") or beside)
    if not (folder / "datasets").is_dir():
        pytest.skip(f"no real data: {folder / 'datasets'} is not a folder (set IRPIPE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def cifar_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with CIFAR-10 in its official binary layout, unpacked once a session (10 s)."""
    script = shared / "datasets" / "unpack_cifar10.py"
    if not script.is_file():
        pytest.skip(f"no real CIFAR-10: {script} is missing")
    root = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(script), str(root)], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which everything has been made once."""
    project = copied(tmp_path_factory.mktemp("built") / "irpipe")
    run = project.snakemake()
    assert run.returncode == 0, run.stderr
    return project.folder


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Project:
    """A copy of it, metadata and times included, to be changed."""
    shutil.copytree(built, tmp_path / "irpipe", symlinks=True)
    return Project(tmp_path / "irpipe")
