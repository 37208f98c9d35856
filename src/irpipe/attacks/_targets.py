"""Random target classes (C.5-1, C.6-3)."""

import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.attacks import AttackBatch


def random_targets(batch: AttackBatch, rng: RandomState, n_draws: int, offset: int = 0) -> Tensor:
    """Draw a target class t' for each image of the batch, `[N]` (C.5-1):

        t' = (t + 1 + randint(C - 1)) mod C, with the true class t of C classes; so t' != t.

    This draws `n_draws` numbers from `rng`; the batch gets those from `offset` on.
    """
    n_classes = len(batch.network.head)
    draws = torch.from_numpy(rng.randint(n_classes - 1, size=n_draws)).to(batch.labels)
    return (batch.labels + 1 + draws[offset:][: len(batch.labels)]) % n_classes
