"""The margin by which a class is missed: what the attacks of the paper and stronger ones raise, lower or hold."""

import math

from torch import Tensor


def lead(logits: Tensor, classes: Tensor, kappa: float = math.inf) -> Tensor:
    """Lead of the best other class over the one in `classes` `[N]`, `[N]`, not below -kappa (paper eq (6), (7))."""
    wanted = classes[:, None]
    others = logits.scatter(1, wanted, -math.inf).amax(dim=1)
    return (others - logits.gather(1, wanted)[:, 0]).clamp(min=-kappa)
