"""Which of the k largest entries of a map stay among the k largest within eps."""

import torch
from torch import Tensor

from irpipe.certification.l1_bound import ROUNDING
from irpipe.certification.map_zonotope import MapNetwork, MapZonotope
from irpipe.certification.margin_bounds import Margins, margin_bounds

N_STEPS = 20


def provably_stay(
    network: MapNetwork,
    zonotope: MapZonotope,
    clean_map: Tensor,
    label: int,
    entries: Tensor,
) -> Tensor:
    """Return whether each of the k `entries` of a map provably stays one of the k largest, `[k]`.

    `clean_map` is L(x, label), `[u]`. Entry i is one of the k largest if L_i - L_j is positive
    for all but k - 1 of the other entries j. This difference is bounded from below by the zonotope,
    then, where that is not enough, by alpha-CROWN, as if it were a margin.
    """
    k = len(entries)
    generators = zonotope.generators[label]
    change = generators[entries, None] - generators
    lower = clean_map[entries, None] - clean_map
    lower = lower + change[:, :, 0] - change[:, :, 1:].abs().sum(dim=2)
    is_other = entries[:, None] != torch.arange(len(clean_map), device=entries.device)
    may_exceed = is_other & (lower <= ROUNDING)
    # Alpha-CROWN has to prove j only for entries that have not been proven yet.
    is_pending = may_exceed & (may_exceed.sum(dim=1, keepdim=True) > k - 1)
    row, other = torch.nonzero(is_pending, as_tuple=True)
    if len(row):
        rows = network.rows[label]
        coefficients = (rows[entries[row]] - rows[other])[None]
        differences = Margins(other[None], coefficients, coefficients.new_zeros(1, len(row)))
        bounds = margin_bounds(
            network.patches,
            zonotope.ball,
            zonotope.interval1,
            zonotope.interval2,
            differences,
            N_STEPS,
            enough=ROUNDING,
        )
        may_exceed[row, other] = bounds.lower[0] <= ROUNDING
    return may_exceed.sum(dim=1) <= k - 1
