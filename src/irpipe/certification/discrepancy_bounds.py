"""Bounds of the l1 discrepancy of maps and of the margins, for all targets of one image."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.l1_bound import l1_bounds
from irpipe.certification.map_zonotope import MapNetwork, MapZonotope
from irpipe.certification.margin_bounds import margin_bounds, margins_of


class DiscrepancyBounds(NamedTuple):
    """What holds for each image x' within eps of x, with label t, and each target c, `[classes]`.

    - `discrepancy`: upper bound of the l1 discrepancy D(x, x') for the classes t and c (paper
      eq (4)); with c = t, this is the 1-class discrepancy;
    - `margin`: lower bound of f_t(x') - f_c(x'); 0 at c = t.
    """

    discrepancy: Tensor
    margin: Tensor


def class_pairs(rows: Tensor, label: int) -> Tensor:
    """Return `[classes, 2 u, ...]`, whose l1 norms are D for `label` and each class.

    `rows` are maps or what they are made of, `[classes, u, ...]`.
    """
    return torch.cat([rows[label].expand_as(rows), rows], dim=1) / 2


def discrepancy_bounds(
    network: MapNetwork, zonotope: MapZonotope, clean_logits: Tensor, label: int
) -> DiscrepancyBounds:
    """Return the bounds for an image x with logits f(x) = `clean_logits` `[classes]`.

    The margin has two bounds, of which the better one counts: that of alpha-CROWN, and that of the
    zonotope, for a map sums to its logit. By the second one, Proposition 1 can certify nothing
    that `margin` does not: if D stays below half the margin of x in all of the zonotope, the
    margin stays positive there.
    """
    discrepancy = l1_bounds(class_pairs(zonotope.generators, label))
    change = zonotope.generators.sum(dim=1)
    change = change[label] - change
    margin = clean_logits[label] - clean_logits
    margin = margin + change[:, 0] - change[:, 1:].abs().sum(dim=1)
    margins = margins_of(network.patches, torch.tensor([label], device=margin.device))
    bounds = margin_bounds(
        network.patches, zonotope.ball, zonotope.interval1, zonotope.interval2, margins
    )
    targets = margins.targets[0]
    margin[targets] = torch.maximum(margin[targets], bounds.lower[0])
    return DiscrepancyBounds(discrepancy, margin)
