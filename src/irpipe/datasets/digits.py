"""Digits: scikit-learn's 1,797 handwritten digits, enlarged to the size of MNIST's.

The paper does not use them. They are small and need no files, so they stand in for MNIST, at
smaller eps, where a run has to end within minutes.
"""

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from irpipe.datasets import DatasetFacts, Images, Split, validated_images
from irpipe.option_types import Eps

SHAPE = (1, 28, 28)
CLASS_NAMES = tuple("0123456789")
EVAL_EPS: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2)
# Our choice: eps = 0.3, as on MNIST, erases strokes that were enlarged from eight pixels.
TRAIN_EPS = 0.2
N_VALIDATION = 200
FILES: dict[str, tuple[str, ...]] = {"train": (), "test": ()}
N_TRAINING = 1397
# Of scikit-learn's package. To import the package for it would double how long a job starts.
TABLE = "sklearn/datasets/data/digits.csv.gz"


def facts(*, train_eps: Eps = 0.2) -> DatasetFacts:
    """What is known of the digits; attacks get 0, 1/4, 1/2, 3/4 and all of `train_eps`."""
    eval_eps = tuple(round(eps / TRAIN_EPS * train_eps, 6) for eps in EVAL_EPS)
    return DatasetFacts(SHAPE, CLASS_NAMES, eval_eps, train_eps, N_VALIDATION)


def load(
    root: Path,
    split: Split,
    download: bool = False,
    *,
    # l-inf bound of training, and the largest of attacks that name none.
    train_eps: Eps = 0.2,
) -> Images:
    """Load the first 1,397 digits for training or the last 400 for testing.

    Images are `[N, 1, 28, 28]` float32: scikit-learn's 8x8 counts from 0 to 16, divided by 16
    and enlarged bilinearly. `root` and `download` have no effect.
    """
    # A row is one digit: its 64 pixels from 0 to 16, and its label.
    table = np.loadtxt(str(distribution("scikit-learn").locate_file(TABLE)), delimiter=",")
    # The package's order keeps each writer's digits together. So a cut without a shuffle tests
    # on writers that training has not seen, except for the one at the cut.
    part = slice(N_TRAINING) if split == "train" else slice(N_TRAINING, None)
    small = torch.from_numpy(table[part, :-1].reshape(-1, 1, 8, 8) / 16).float()
    images = interpolate(small, size=SHAPE[1:], mode="bilinear", align_corners=False).clamp(0, 1)
    labels = torch.from_numpy(table[part, -1].astype(np.int64))
    return validated_images(images, labels, SHAPE, len(CLASS_NAMES), "scikit-learn's digits")
