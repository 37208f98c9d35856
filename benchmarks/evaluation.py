"""Seconds of a PGD evaluation: irpipe against torchattacks, in one run, on a released MNIST Small network.

    python benchmarks/evaluation.py CHECKPOINT [CHECKPOINT ...] [--data FOLDER] [--images 200]

Tables 3 and 4 need 4 radii at 4 step counts. torchattacks runs each of the 16 by itself; irpipe runs them together,
with the head folded, and leaves trajectories that repeat. Prints both times, their ratio and how many cells agree.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torchattacks
from plain import Plain

from irpipe import config
from irpipe.data import data_root, load
from irpipe.evaluate import evaluate, load_network
from irpipe.hardware import device
from irpipe.io import read_checkpoint

RADII, STEPS = [0.05, 0.1, 0.2, 0.3], [1, 10, 100, 200]


def ours(path: Path, data: Path, images: int) -> np.ndarray:
    """Accuracies `[E, S]` by irpipe."""
    entry = {"kind": "pgd", "eps": RADII, "steps": STEPS, "images": images}
    spec = config.resolved("attacks", entry, "benchmark")
    result = evaluate(path, "pgd", spec, data, device("cpu"), "benchmark")
    return np.asarray(result.arrays["correct"].mean(axis=0))


def theirs(path: Path, data: Path, images: int) -> np.ndarray:
    """Accuracies `[E, S]` by one torchattacks run for each."""
    checkpoint = read_checkpoint(path)
    test = load(checkpoint.metadata["data"], data, "test")
    network = Plain(load_network(checkpoint, path)).requires_grad_(False)
    index = np.random.RandomState(99).permutation(len(test))[:images]
    chosen, labels = test.images[index].float(), test.labels[index]
    found = np.zeros((len(RADII), len(STEPS)))
    for row, radius in enumerate(RADII):
        for column, steps in enumerate(STEPS):
            attack = torchattacks.PGD(network, eps=radius, alpha=0.01, steps=steps, random_start=False)
            moved = attack(chosen, labels)
            with torch.no_grad():
                found[row, column] = float((network(moved).argmax(dim=1) == labels).double().mean())
    return found


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{'network':28}{'irpipe':>9}{'torchattacks':>14}{'ratio':>8}{'equal':>8}   seconds, {threads} threads")
    for path in options.checkpoints:
        begin = time.perf_counter()
        own = ours(path, data_root(options.data), options.images)
        middle = time.perf_counter()
        other = theirs(path, data_root(options.data), options.images)
        end = time.perf_counter()
        equal = int((np.abs(own - other) < 0.5 / options.images).sum())
        spent = f"{middle - begin:9.1f}{end - middle:14.1f}{(end - middle) / (middle - begin):8.1f}"
        print(f"{path.stem:28}{spent}{equal:5}/16", flush=True)


if __name__ == "__main__":
    main()
