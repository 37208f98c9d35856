"""The authors' package of AutoAttack: its classes, a module for them, and what they found."""

import logging
import threading
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from irpipe.attacks import AttackBatch
from irpipe.errors import IrpipeError
from irpipe.runtime.memory import map_fitting_rows
from irpipe.runtime.progress import Advance

# pyautoattack's names of the norms of eps.
PYAUTOATTACK_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
# pyautoattack logs images without a gradient. The signs of masking count them.
SILENT = logging.Logger("pyautoattack", logging.CRITICAL)


def import_pyautoattack() -> SimpleNamespace:
    """What the members need of it; raises IrpipeError if the optional package is missing."""
    try:
        from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted, L1_projection
        from pyautoattack.fab_pt import FABAttack_PT
        from pyautoattack.square import SquareAttack
    except ImportError as error:
        raise IrpipeError(
            "attack kind autoattack: pyautoattack is missing; pip install 'irpipe[stress]'"
        ) from error
    return SimpleNamespace(
        APGD=APGDAttack,
        APGDT=APGDAttack_targeted,
        FAB=FABAttack_PT,
        L1_projection=L1_projection,
        Square=SquareAttack,
    )


class TorchModule(nn.Module):
    """A folded network as the `nn.Module` that pyautoattack needs. It shows its calls as progress.

    A call with all images of the batch counts as one pass, with a gradient as three.
    """

    def __init__(self, batch: AttackBatch, advance: Advance) -> None:
        super().__init__()
        self.network = batch.folded.network
        self.folded = batch.folded
        self.n_images = len(batch.images)
        self.advance = advance
        self.n_calls = 0  # of single images
        self.n_shown = 0
        self.lock = threading.Lock()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[N, classes]`."""
        if not len(images):  # Square asks so if a margin is exactly 0.
            return images.new_empty(0, len(self.network.head))
        with self.lock:
            self.n_calls += len(images) * (3 if images.requires_grad else 1)
            self._show(self.n_calls // self.n_images)
        if images.requires_grad:
            return self.folded(images)
        return map_fitting_rows(lambda images: [self.folded(images)], images)[0]

    def skip_to(self, n_passes: int) -> None:
        """Count so many passes as done, because images that are broken save the rest of them."""
        self.n_calls = max(self.n_calls, n_passes * self.n_images)
        self._show(n_passes)

    def _show(self, n_passes: int) -> None:
        if n_passes > self.n_shown:
            self.advance(n_passes - self.n_shown)
            self.n_shown = n_passes


class SearchResults:
    """The images that a search returned, at M positions. Each is searched for once."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.is_known = torch.zeros(len(images), dtype=torch.bool, device=images.device)

    def __call__(self, positions: Tensor, search: Callable[[Tensor], Tensor]) -> Tensor:
        """Results at `positions` `[m]`; call `search` for the unknown ones."""
        unknown = positions[~self.is_known[positions]]
        if len(unknown):
            self.images[unknown] = search(unknown)
            self.is_known[unknown] = True
        return self.images[positions]
