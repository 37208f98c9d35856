"""Training on images in files: the same weights as from memory, also after an interruption."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from irpipe import config
from irpipe.datasets import Images, _image_files
from irpipe.runtime.threads import training_threads
from irpipe.training.plan import TrainingPlan
from irpipe.training.resume import restore_state, training_state
from irpipe.training.trainer import Trainer

N_IMAGES = 26
BATCH_SIZE = 4  # six batches, and two images that no batch holds


def make_trainer(root: Path) -> Trainer:
    data = config.resolve_named("datasets", {"kind": "restricted_imagenet"}, "test")
    entry = {"kind": "cross_entropy", "adversarial": False}
    recipe = {
        "batch_size": BATCH_SIZE,
        "epochs": 2,
        "lr": [[0, 1e-3]],
        "eps_schedule": [[0, 0]],
        "inner_steps": 1,
        "inner_step_size": 0.1,
    }
    plan = TrainingPlan(
        "restricted_imagenet",
        data,
        "small",
        "normal",
        config.resolve_named("methods", entry, "test"),
        config.resolve_named("recipes", recipe, "test"),
        0,
        "test",
    )
    return Trainer(plan, root, torch.device("cpu"))


def take_steps(trainer: Trainer, n_steps: int) -> None:
    with training_threads():
        for _ in range(n_steps):
            trainer.step()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.RandomState(1)
    for index in range(N_IMAGES):
        path = tmp_path / "train" / ("n02123045", "n01641577")[index % 2] / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.randint(256, size=(40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path, format="png")
    return tmp_path


@pytest.mark.parametrize("n_workers", [0, 2])
def test_weights_are_those_from_memory(
    n_workers: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_image_files, "MAX_WORKERS", n_workers)
    monkeypatch.setattr(_image_files, "BATCHES_PER_WORKER", 1)
    in_memory = make_trainer(root)
    in_memory.training = Images(in_memory.training.images[:], in_memory.training.labels)
    take_steps(in_memory, 8)
    # Interrupted within the first epoch and again within the second.
    trainer = make_trainer(root)
    for n_steps in (2, 5, 1):
        state = training_state(trainer)
        # Its readers end now. If the garbage collector finds them, torch waits 20 s for them.
        trainer.batches = None
        trainer = make_trainer(root)
        restore_state(trainer, state)
        take_steps(trainer, n_steps)
    trainer.batches = None
    expected = in_memory.network.state_dict()
    for name, weight in trainer.network.state_dict().items():
        assert torch.equal(weight, expected[name])
    assert training_state(trainer).tensors["order"].tolist() == in_memory.progress.order.tolist()


SCRIPT = """
import multiprocessing
import sys
from pathlib import Path
from test_training_from_files import make_trainer, take_steps

def print_peak(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    print(next(line for line in lines if line.startswith("VmHWM")).split()[1])

print_peak("self")
trainer = make_trainer(Path(sys.argv[1]))
assert len(trainer.training) == 2000
take_steps(trainer, 2)
for pid in ("self", *(process.pid for process in multiprocessing.active_children())):
    print_peak(pid)
"""


def test_memory_does_not_grow_with_the_data_set(shared: Path, tmp_path: Path) -> None:
    """The 2,000 images would take 1.2 GB. Two processes have 0.5 GB beyond their libraries."""
    sources = sorted((shared / "datasets" / "restricted_imagenet" / "val").glob("*/*.JPEG"))
    for index in range(2000):
        source = sources[index % len(sources)]
        path = tmp_path / "train" / source.parent.name / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(source)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    output = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True)
    libraries_kib, main_kib, *readers_kib = map(int, output.stdout.split())
    assert readers_kib
    assert main_kib + max(readers_kib) - 2 * libraries_kib < 2**19
