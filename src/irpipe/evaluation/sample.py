"""The test images that an attack's options name (C.4)."""

from typing import Any, NamedTuple

import numpy as np
import torch

from irpipe.datasets import Images
from irpipe.errors import IrpipeError


class Sample(NamedTuple):
    """Test images to attack: positions in the test set `[N]`, images and labels."""

    indices: np.ndarray
    images: torch.Tensor
    labels: torch.Tensor


def draw_sample(
    test: Images, options: dict[str, Any], device: torch.device
) -> tuple[Sample, np.random.RandomState]:
    """The sample on `device`, and the generator after the permutation was drawn.

    The indices are the first `images` of a random permutation of the test set (C.4), or the
    option `indices`. Raises IrpipeError if the test set has fewer images.
    """
    if options["images"] > len(test):
        raise IrpipeError(
            f"attack option images: {options['images']}, but the test set has {len(test)}"
        )
    rng = np.random.RandomState(options["seed"])
    indices = rng.permutation(len(test))[: options["images"]]
    if options.get("indices"):
        indices = np.array(options["indices"])
        if indices.max() >= len(test):
            raise IrpipeError(
                f"attack option indices: {indices.max()}, but the test set has {len(test)}"
            )
    return Sample(indices, test.images[indices].to(device), test.labels[indices].to(device)), rng
