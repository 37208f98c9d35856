"""What AutoAttack's members attack: images at some eps, by a search with its own seeds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.attacks import AttackBatch
from irpipe.attacks._pyautoattack import TorchModule
from irpipe.option_types import EpsNorm
from irpipe.runtime.memory import gradient_bytes


class Rows(NamedTuple):
    """M images to attack, each at some eps.

    - `images`: float32, `[M, C, H, W]`; `labels`: `[M]`; `eps`: `[M, 1, 1, 1]`;
    - `image`, `eps_number`: positions in the batch and in the list of eps, `[M]`.
    """

    images: Tensor
    labels: Tensor
    eps: Tensor
    image: Tensor
    eps_number: Tensor


@dataclass(frozen=True)
class Search:
    """What a member needs to know. There is one of `seeds` for each eps."""

    batch: AttackBatch
    module: TorchModule
    norm: EpsNorm
    eps: list[float]
    seeds: list[int]
    steps: int
    n_queries: int

    def rows(self, positions: Tensor) -> Rows:
        """The images at these `positions`: e N + n is image n of N at the eps number e."""
        n_images = len(self.batch.images)
        image, eps_number = positions % n_images, positions // n_images
        images = self.batch.images[image].float()
        eps = images.new_tensor(self.eps)[eps_number].view(-1, 1, 1, 1)
        return Rows(images, self.batch.labels[image], eps, image, eps_number)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.batch.network.head)

    def row_bytes(self) -> int:
        """Bytes that autograd stores for one row."""
        return gradient_bytes(self.batch.folded, self.batch.images[:1])


@contextmanager
def alone(search: Search) -> Iterator[None]:
    """Leave torch's generators as they are, and compute no gradients."""
    images = search.batch.images
    with torch.random.fork_rng([images.device] if images.is_cuda else []), torch.no_grad():
        yield
