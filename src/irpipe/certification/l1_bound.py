"""The largest l1 norm of a zonotope, bounded by a scaled spectral norm (docs/certify.md)."""

import torch
from torch import Tensor

from irpipe.certification.dual import Dual

N_STEPS = 50
STEP_SIZE = 0.15
# Covers the rounding of float64.
ROUNDING = 1e-9
SMALLEST = 1e-12


def l1_bounds(generators: Tensor, n_steps: int = N_STEPS) -> Tensor:
    """Return upper bounds of max over |t_j| <= 1 of |G t|_1, `[B]`, for B matrices G `[B, R, J]`.

    With s = sign(G t), the norm is s' G t. For all positive diagonal matrices D1 and D2,

        s' G t <= sigma_max(D1^-1/2 G D2^-1/2) |D1^1/2 s|_2 |D2^1/2 t|_2
               <= sigma_max(D1^-1/2 G D2^-1/2) sqrt(trace D1 trace D2)

    The bound with the row and column sums of |G| is at most their total. From there, `n_steps`
    steps of Adam on log D1 and log D2 lower its logarithm. If u and v are the singular vectors of
    sigma_max, the gradients are (D1 / trace D1 - u^2) / 2 and (D2 / trace D2 - v^2) / 2.
    """
    size = generators.abs()
    rows = Dual.starting_at(size.sum(dim=2).clamp(min=SMALLEST).log(), square_decay=0.999)
    columns = Dual.starting_at(size.sum(dim=1).clamp(min=SMALLEST).log(), square_decay=0.999)
    best = generators.new_full((len(generators),), torch.inf)
    for step in range(n_steps + 1):
        scaled = generators * (-rows.value / 2).exp()[:, :, None]
        scaled = scaled * (-columns.value / 2).exp()[:, None, :]
        squares, vectors = torch.linalg.eigh(scaled @ scaled.mT)
        largest = squares[:, -1].clamp(min=SMALLEST**2)
        left = vectors[:, :, -1]
        right = (left[:, None] @ scaled)[:, 0] / largest.sqrt()[:, None]
        log_traces = rows.value.logsumexp(dim=1) + columns.value.logsumexp(dim=1)
        best = torch.minimum(best, ((largest.log() + log_traces) / 2).exp())
        if step == n_steps:
            break
        step_size = STEP_SIZE * (1 - step / n_steps)
        for dual, vector in ((rows, left), (columns, right)):
            descent = (vector.square() - dual.value.softmax(dim=1)) / 2
            dual.ascend(descent, step_size, step + 1)
    return best * (1 + ROUNDING)
