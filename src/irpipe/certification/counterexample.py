"""Search for misclassified images from the points at which a bound is smallest."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.margin_bounds import Margins
from irpipe.certification.patch_network import MarginNetwork

# The attack on open margins: steps, and random starts for each target.
ATTACK_STEPS = 60
RANDOM_STARTS = 2
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
    network: MarginNetwork,
    clean: Tensor,
    eps: float,
    starts: Tensor,
    coefficients: Tensor,
    constant: Tensor,
    n_steps: int,
    enough: float = -torch.inf,
) -> Descent:
    """Lower margins f = sum over p of m_p relu(z2_p) + c by PGD within `eps` of clean images.

    `clean` are `[R, C, H, W]`, or one `[C, H, W]` for all; `starts` are `[R, C, H, W]`,
    `coefficients` m are `[R, P, c2]`, `constant` c is `[R]`. The steps are a falling share of eps
    times the gradient's sign. The descent ends early once a margin is below `enough`.
    """
    lower = (clean - eps).clamp(min=0)
    upper = (clean + eps).clamp(max=1)
    images = torch.minimum(torch.maximum(starts, lower), upper)
    best = Descent(images, torch.full_like(constant, torch.inf))
    for step in range(n_steps + 1):
        margins, gradient = network.margins(images, coefficients, constant)
        is_better = margins < best.margins
        best = Descent(
            torch.where(is_better.view(-1, 1, 1, 1), images, best.images),
            torch.where(is_better, margins, best.margins),
        )
        if bool((margins < enough).any()):
            break
        share = max(LAST_STEP, FIRST_STEP * (1 - step / n_steps))
        images = images - eps * share * gradient.sign()
        images = torch.minimum(torch.maximum(images, lower), upper)
    return best


def attack_margins(
    network: MarginNetwork,
    clean: Tensor,
    eps: float,
    margins: Margins,
    minimiser: Tensor,
    order: Tensor,
    seed: int,
) -> Tensor | None:
    """Return the first misclassified image found, or None.

    PGD aims at the targets with indices `order`.

    `margins` are those of one image, and `minimiser` `[T, C, H, W]` is where their bounds are
    reached. For each target, PGD starts there, at the clean image and at RANDOM_STARTS points of
    the ball.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (len(order), RANDOM_STARTS, *clean.shape)
    noise = 2 * torch.rand(shape, generator=generator).to(clean) - 1
    starts = [
        clean.expand(len(order), 1, -1, -1, -1),
        minimiser[order, None],
        clean + eps * noise,
    ]
    rows = order.repeat_interleave(RANDOM_STARTS + 2)
    descent = descend(
        network,
        clean,
        eps,
        torch.cat(starts, dim=1).flatten(0, 1),
        margins.coefficients[rows],
        margins.constant[rows],
        ATTACK_STEPS,
        enough=MAX_BROKEN_MARGIN,
    )
    return descent.misclassified()
