"""Random targets of the attacks that name one (protocol C.5-1, C.6-3)."""

import torch
from numpy.random import RandomState
from torch import Tensor

from irpipe.ascent import Case


def targets(case: Case, rng: RandomState, size: int, first: int = 0) -> Tensor:
    """A class other than the true one for each image of the case, `[N]`: `size` draws from `rng`, from `first` on."""
    classes = len(case.network.head)
    offset = torch.from_numpy(rng.randint(classes - 1, size=size)).to(case.labels)
    return (case.labels + 1 + offset[first:][: len(case.labels)]) % classes
