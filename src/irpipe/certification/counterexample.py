"""Search for misclassified images from the points at which a bound is smallest."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.patch_network import PatchNetwork

FIRST_STEP = 0.5  # steps fall from this share of eps
LAST_STEP = 0.02


# A margin that is less negative may have another sign in the network's rounding.
MAX_BROKEN_MARGIN = -1e-4


class Descent(NamedTuple):
    """The images of smallest margin that a descent passed, `[R, C, H, W]`, and these, `[R]`."""

    images: Tensor
    margins: Tensor

    def misclassified(self) -> Tensor | None:
        """Return the image of smallest margin, `[C, H, W]`, if this is negative; else None."""
        smallest = int(self.margins.argmin())
        is_broken = float(self.margins[smallest]) < MAX_BROKEN_MARGIN
        return self.images[smallest] if is_broken else None


def descend(
    network: PatchNetwork,
    clean: Tensor,
    eps: float,
    starts: Tensor,
    coefficients: Tensor,
    constant: Tensor,
    n_steps: int,
) -> Descent:
    """Lower margins f = sum over p of m_p relu(z2_p) + c by PGD within `eps` of one image.

    `clean` is `[C, H, W]`, `starts` are `[R, C, H, W]`, `coefficients` m are
    `[R, P, c2]`, `constant` c is `[R]`. The steps are a falling share of eps
    times the gradient's sign.
    """
    lower = (clean - eps).clamp(min=0)
    upper = (clean + eps).clamp(max=1)
    images = torch.minimum(torch.maximum(starts, lower), upper)
    best = Descent(images, torch.full_like(constant, torch.inf))
    for step in range(n_steps + 1):
        z1 = network.layer1(images)
        z2 = network.layer2(z1.relu())
        margins = (z2.relu() * coefficients).sum(dim=(1, 2)) + constant
        is_better = margins < best.margins
        best = Descent(
            torch.where(is_better.view(-1, 1, 1, 1), images, best.images),
            torch.where(is_better, margins, best.margins),
        )
        gradient1 = network.layer2_adjoint(coefficients * (z2 > 0)) * (z1 > 0)
        share = max(LAST_STEP, FIRST_STEP * (1 - step / n_steps))
        images = images - eps * share * network.layer1_adjoint(gradient1).sign()
        images = torch.minimum(torch.maximum(images, lower), upper)
    return best
