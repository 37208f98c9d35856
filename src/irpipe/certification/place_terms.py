"""What the places of layer 2 see of one image, reduced to the neurons that matter."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.relaxation import Ball, Interval, Relaxation, relax


class PlaceTerms(NamedTuple):
    """One image's terms for each place p of layer 2, in all P rows.

    Of the entries h_p of layer 1 that p sees, most are linear in the image for all images of the
    ball: z1 where l1 >= 0, and 0 where u1 <= 0. Only the open ones need a relaxation. There are
    at most k of them; rows with fewer are filled with zeros. So h_p has the k open entries, and

        z1_p = K_p x_p + b1_p,   z2_p = W2_p h_p + L_p x_p + d_p

    with L_p and d_p from the entries that are linear. This makes the search three times faster.

    - `ball`: the patches x_p, `[P, q]`;
    - `entries`: the entries' positions in the flattened layer 1, `[P, k]`;
    - `patch_entries`: their positions in the patch, `[P, k]`;
    - `patch_active`: 1 where an entry of the patch has l1 >= 0, else 0, `[P, a]`;
    - `weight2`: W2_p, `[P, c2, k]`;
    - `pixel_weights`: K_p and below it L_p, `[P, k + c2, q]`;
    - `bias`: b1_p and then d_p, `[P, k + c2]`;
    - `interval1`, `relaxation1`: of z1_p, `[P, k]`;
    - `interval2`, `relaxation2`: of z2_p, `[P, c2]`.
    """

    ball: Ball
    entries: Tensor
    patch_entries: Tensor
    patch_active: Tensor
    weight2: Tensor
    pixel_weights: Tensor
    bias: Tensor
    interval1: Interval
    relaxation1: Relaxation
    interval2: Interval
    relaxation2: Relaxation

    @property
    def n_entries(self) -> int:
        """The number k of open entries of a place."""
        return self.entries.shape[1]


def place_terms(
    network: PatchNetwork, ball: Ball, interval1: Interval, interval2: Interval
) -> PlaceTerms:
    """Return the terms of one image, from its ball and its intervals `[1, ...]`."""
    patches1 = Interval(*(network.hidden.cut(tensor)[0] for tensor in interval1))
    relaxation1 = relax(patches1, network.is_inside)
    n_open = relaxation1.is_open.sum(dim=1, keepdim=True)
    # At least one column, so that no tensor is empty.
    n_columns = max(int(n_open.max()), 1)
    patch_entries = relaxation1.is_open.argsort(dim=1, descending=True, stable=True)
    patch_entries = patch_entries[:, :n_columns]
    is_filled = torch.arange(n_columns, device=n_open.device) < n_open
    layer = torch.arange(interval1.lower.numel(), device=n_open.device)
    layer = layer.view(interval1.lower.shape).to(ball.center.dtype)
    entries = network.hidden.cut(layer)[0].long()

    def select(tensor: Tensor) -> Tensor:
        return tensor.gather(1, patch_entries) * is_filled

    weight2 = network.weight2.t()[patch_entries] * is_filled[:, :, None]
    composed = network.composed[patch_entries] * is_filled[:, :, None]
    linear = network.weight2 * relaxation1.active[:, None]
    bias2 = network.bias2 + linear @ network.patch_bias1
    return PlaceTerms(
        ball=Ball(*(network.receptive.cut(tensor)[0] for tensor in ball)),
        entries=entries.gather(1, patch_entries),
        patch_entries=patch_entries,
        patch_active=relaxation1.active,
        weight2=weight2.transpose(1, 2).contiguous(),
        pixel_weights=torch.cat([composed, linear @ network.composed], dim=1),
        bias=torch.cat([network.patch_bias1[patch_entries] * is_filled, bias2], dim=1),
        interval1=Interval(*map(select, patches1)),
        relaxation1=Relaxation(*map(select, relaxation1)),
        interval2=Interval(*(tensor[0] for tensor in interval2)),
        relaxation2=relax(Interval(*(tensor[0] for tensor in interval2))),
    )
