"""Real data, from the folder that `IRPIPE_SHARED` names, and projects in which all was made."""

import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from made_once import made_once
from workflow_copy import ROOT, Project, copy_project

# The package sets this, too, but some tests load torch first.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# What a person has set for work with irpipe is no part of the tests.
for name in ("IRPIPE_DATA", "IRPIPE_RELEASED", "IRPIPE_CODE", "IRPIPE_LOCK_GPU"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `datasets/` and `released/`; the test is skipped where there is none."""
    folder = Path(os.environ.get("IRPIPE_SHARED") or ROOT.parent / "shared")
    if not (folder / "datasets").is_dir():
        pytest.skip(f"no real data: {folder / 'datasets'} is not a folder (set IRPIPE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def cifar_root(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with CIFAR-10 in its official binary layout, unpacked once a session (10 s)."""
    script = shared / "datasets" / "unpack_cifar10.py"
    if not script.is_file():
        pytest.skip(f"no real CIFAR-10: {script} is missing")

    def unpack(folder: Path) -> None:
        subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)

    return made_once(tmp_path_factory, "cifar10", unpack)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which snakemake has made everything; all processes read it, none changes it."""

    def make(folder: Path) -> None:
        copy_project(folder / "irpipe").make()

    return made_once(tmp_path_factory, "built", make) / "irpipe"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Project:
    """A copy of `built`, with metadata and times, for one test to change."""
    return Project(built).copy(tmp_path / "irpipe")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage among what imports leave: it is nearly half of the time they take."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the tests that take a minute: no process is to work alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Torch draws the same numbers in a test, whichever tests ran before it in the process."""
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)
