"""Digits: scikit-learn's 1,797 handwritten digits, drawn as large as MNIST's. Small, and needs no files.

Not in the paper: they stand in for MNIST where a run has to end within minutes, at smaller radii.
"""

from pathlib import Path

import torch
from torch.nn.functional import interpolate

from irpipe.data import Images, Split, checked

SHAPE = (1, 28, 28)
CLASSES = tuple("0123456789")
RADII: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2)
RADIUS = 0.2  # ours: at 0.3 nothing is left of strokes enlarged from eight pixels
VALIDATION = 200
TRAIN = 1397


def load(root: Path, split: Split, download: bool = False) -> Images:
    """Load the first 1,397 digits to train or the last 400 to test; `root` and `download` are not needed.

    Images are [N, 1, 28, 28] float32: the 8x8 counts of 0 to 16, divided by 16, enlarged bilinearly.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    # The package's order keeps each writer's digits together. Cutting it without a shuffle tests on writers
    # that training has not seen (but for the one at the cut).
    part = slice(TRAIN) if split == "train" else slice(TRAIN, None)
    small = torch.from_numpy(digits.images[part, None] / 16).float()
    images = interpolate(small, size=SHAPE[1:], mode="bilinear", align_corners=False).clamp(0, 1)
    labels = torch.from_numpy(digits.target[part])
    return checked(images, labels, SHAPE, len(CLASSES), "scikit-learn's digits")
