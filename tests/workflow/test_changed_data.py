"""The workflow sees at each start whether the data sets and the released networks changed.

Other names, places and times of the same content change nothing.
"""

import os
import pickle
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_once import made_once
from PIL import Image
from warm_python import programs
from workflow_copy import ROOT, Project, copy_project

# The real `irpipe data` and `irpipe import` are quick; the fake one does the rest.
SCRIPT = """#!/bin/sh
case $1 in
data) exec {python} -m irpipe "$@" ;;
*) exec {python} {fake} "$@" ;;
esac
"""
WNIDS = ("n01641577", "n02123045")  # bullfrog, tabby cat


def write_images(folder: Path, n_images: int) -> None:
    """Write images of two of Restricted ImageNet's classes, in turn."""
    for k in range(n_images):
        path = folder / WNIDS[k % 2] / f"{k}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 50 + k, np.uint8)).save(path, format="png")


def photographs_in(folder: Path) -> Project:
    """The project in a folder, with a config for a data set of photographs."""
    project = Project(folder)
    project.config["datasets"] = {"photographs": {"kind": "restricted_imagenet"}}
    project.config["networks"][0] |= {"dataset": "photographs", "methods": ["normal"]}
    project.config["networks"][0]["released_files"] = {"normal": "net.pkl"}
    return project


def make(folder: Path) -> None:
    """Make everything of a project whose data set has 3 training and 4 test images."""
    project = photographs_in(copy_project(folder / "irpipe").folder)
    write_images(project.folder / "data" / "train", 3)
    write_images(project.folder / "data" / "val", 4)
    script = project.folder / "bin" / "irpipe"
    script.parent.mkdir()
    python, fake = (
        shlex.quote(str(path)) for path in (programs() / "python", ROOT / "tests/fake_irpipe.py")
    )
    script.write_text(SCRIPT.format(python=python, fake=fake), encoding="utf-8")
    script.chmod(0o755)
    released = project.folder / "released" / "net.pkl"
    released.parent.mkdir()
    released.write_bytes(pickle.dumps("weights"))
    project.make()


@pytest.fixture
def photographs(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Project:
    """A project in which everything is made, for one test to change."""
    made = made_once(tmp_path_factory, "photographs", make)
    return photographs_in(shutil.copytree(made / "irpipe", tmp_path / "irpipe"))


def test_a_removed_test_image_makes_again_what_depends_on_it(photographs: Project) -> None:
    assert photographs.jobs() == {}
    (photographs.folder / "data" / "val" / WNIDS[0] / "2.JPEG").unlink()
    changed = {"check_data": 1, "evaluate": 2, "table": 1, "figure": 1}
    assert photographs.jobs() == changed
    photographs.make()
    assert photographs.jobs() == {}
    # The same again, with a changed training image.
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(
        photographs.folder / "data" / "train" / WNIDS[0] / "0.JPEG", format="png"
    )
    assert photographs.jobs() == changed | {"train": 1, "evaluate": 1}


def test_moved_copied_touched_and_absent_data_change_nothing(
    photographs: Project, tmp_path: Path
) -> None:
    for path in (photographs.folder / "data").rglob("*.JPEG"):
        path.touch()
    shutil.copytree(photographs.folder / "data", tmp_path / "copied", copy_function=shutil.copy)
    (photographs.folder / "released").rename(tmp_path / "moved")
    moved = ("--config", f"released={tmp_path / 'moved'}")
    assert photographs.jobs(*moved) == {}
    assert photographs.jobs(*moved, f"data={tmp_path / 'copied'}") == {}
    assert photographs.jobs(*moved, f"data={tmp_path / 'none'}") == {}
    (tmp_path / "moved" / "net.pkl").write_bytes(pickle.dumps("other weights"))
    expected = {"import_released": 1, "evaluate": 1, "table": 1, "figure": 1}
    assert photographs.jobs(*moved) == expected


def test_an_unreadable_image_stops_the_workflow_with_one_line(photographs: Project) -> None:
    path = photographs.folder / "data" / "val" / WNIDS[0] / "0.JPEG"
    content = path.read_bytes()
    path.write_bytes(content[:30])
    run = photographs.snakemake()
    assert run.returncode == 2
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("irpipe: error: ")]
    assert f"{path}: not a readable image" in line
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    assert photographs.jobs() == {}
