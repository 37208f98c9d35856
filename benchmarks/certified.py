"""AutoAttack that skips what bounds certify, against AutoAttack on all images; one round.

Both are irpipe's, at eps = .1 and .2. The time includes certifying.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.common import Row, Setup, comparison, time_in_turns
from irpipe import config
from irpipe.evaluation import evaluate_checkpoint
from irpipe.runtime.device import select_device

N_IMAGES = 200


def correct_images(path: Path, data: Path, skip_certified: bool) -> np.ndarray:
    """Return which images AutoAttack leaves correct, `[N, E]`."""
    entry = {
        "kind": "autoattack",
        "eps": [0.1, 0.2],
        "images": N_IMAGES,
        "skip_certified": skip_certified,
    }
    options = config.resolve_named("attacks", entry, "benchmark")
    result = evaluate_checkpoint(path, "aa", options, data, select_device("cpu"), "benchmark")
    return result.arrays["correct"][:, :, 0]


def rows(setup: Setup) -> Iterator[Row]:
    """Yield a comparison for Int and one for Adv on MNIST Small."""
    for method in ("int", "adv"):
        run = partial(correct_images, setup.checkpoint("mnist", "small", method), setup.data)
        (skipping, attacking), (seconds, other_seconds) = time_in_turns(
            1, partial(run, True), partial(run, False)
        )
        n_differ = int((skipping != attacking).sum())
        work = f"AutoAttack, MNIST Small {method}, {N_IMAGES} images"
        equal = f"{n_differ} of {skipping.size} outcomes differ"
        yield comparison(work, "without certificates", seconds, other_seconds, equal)
