"""What the places of layer 2 see of one image, reduced to the neurons that matter."""

from typing import NamedTuple

import torch
from torch import Tensor

from irpipe.certification.patch_network import PatchNetwork
from irpipe.certification.relaxation import Ball, Interval, Relaxation, relax


class PlaceTerms(NamedTuple):
    """One image's terms for each place p of layer 2, in all P rows.

    Most neurons that p has or sees have one sign for all images of the ball, so that they are
    linear in the image or 0. Only the open ones need a relaxation: at most k1 entries h_p of the
    patch of layer 1 and at most k2 channels of layer 2. Rows with fewer are filled with zeros.
    With a last entry of x_p that is 1,

        z1_p = K_p x_p,   z2_p = W2_p h_p + L_p x_p

    for the open entries h_p and all channels. `linear` has K_p and below it L_p of the open ones.

    - `ball`: the patches x_p, `[P, q + 1]`;
    - `entries`: the open entries' positions in the flattened layer 1, `[P, k1]`;
    - `patch_entries`: their positions in the patch, `[P, k1]`;
    - `patch_active`: 1 where an entry of the patch has l1 >= 0, else 0, `[P, a]`;
    - `is_entry`, `is_channel`: 0 where a row is filled, else 1, `[P, k1]` and `[P, k2]`;
    - `channels`: the open channels, `[P, k2]`;
    - `weight2`: W2_p of the open channels, `[P, k2, k1]`; `channel_weights`: of all, `[P, c2, k1]`;
    - `linear`: `[P, k1 + k2, q + 1]`; `channel_linear`: L_p of all channels, `[P, c2, q + 1]`;
    - `interval`, `relaxation`: of z1_p and z2_p of the open neurons, `[P, k1 + k2]`;
    - `relaxation2`: of z2_p of all channels, `[P, c2]`.
    """

    ball: Ball
    entries: Tensor
    patch_entries: Tensor
    patch_active: Tensor
    is_entry: Tensor
    channels: Tensor
    is_channel: Tensor
    weight2: Tensor
    channel_weights: Tensor
    linear: Tensor
    channel_linear: Tensor
    interval: Interval
    relaxation: Relaxation
    relaxation2: Relaxation

    @property
    def n_entries(self) -> int:
        """The number k1 of open entries of a place."""
        return self.entries.shape[1]

    def of_channels(self, values: Tensor) -> Tensor:
        """Return `values` `[P, c2]` of the open channels, `[P, k2]`; 0 where a row is filled."""
        return values.gather(1, self.channels) * self.is_channel

    def multipliers_of(self, values: Tensor) -> Tensor:
        """Return `values` `[P, a]` of the open entries, `[P, k1]`; 0 where a row is filled."""
        return values.gather(1, self.patch_entries) * self.is_entry


def place_terms(
    network: PatchNetwork, ball: Ball, interval1: Interval, interval2: Interval
) -> PlaceTerms:
    """Return the terms of one image, from its ball and its intervals `[1, ...]`."""
    patches1 = Interval(*(network.hidden.cut(tensor)[0] for tensor in interval1))
    patches2 = Interval(*(tensor[0] for tensor in interval2))
    relaxation1 = relax(patches1, network.is_inside)
    relaxation2 = relax(patches2)
    patch_entries, is_entry = _open_first(relaxation1.is_open)
    channels, is_channel = _open_first(relaxation2.is_open)
    layer = torch.arange(interval1.lower.numel(), device=ball.center.device)
    layer = layer.view(interval1.lower.shape).to(ball.center.dtype)
    entries = network.hidden.cut(layer)[0].long().gather(1, patch_entries)

    def select(of_layer1: Tensor, of_layer2: Tensor) -> Tensor:
        open1 = of_layer1.gather(1, patch_entries) * is_entry
        return torch.cat([open1, of_layer2.gather(1, channels) * is_channel], dim=1)

    channel_weights = (network.weight2.t()[patch_entries] * is_entry[:, :, None]).transpose(1, 2)
    composed = torch.cat([network.composed, network.patch_bias1[:, None]], dim=1)
    channel_linear = (network.weight2 * relaxation1.active[:, None]) @ composed
    channel_linear[:, :, -1] += network.bias2
    place = torch.arange(len(channels), device=channels.device)[:, None]
    open_rows = (place, channels)
    return PlaceTerms(
        ball=_with_one(Ball(*(network.receptive.cut(tensor)[0] for tensor in ball))),
        entries=entries,
        patch_entries=patch_entries,
        patch_active=relaxation1.active,
        is_entry=is_entry,
        channels=channels,
        is_channel=is_channel,
        weight2=channel_weights[open_rows] * is_channel[:, :, None],
        channel_weights=channel_weights,
        linear=torch.cat(
            [
                composed[patch_entries] * is_entry[:, :, None],
                channel_linear[open_rows] * is_channel[:, :, None],
            ],
            dim=1,
        ),
        channel_linear=channel_linear,
        interval=Interval(*map(select, patches1, patches2)),
        relaxation=Relaxation(*map(select, relaxation1, relaxation2)),
        relaxation2=relaxation2,
    )


def _open_first(is_open: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns `[P, k]` where rows of `is_open` are 1, and 0 where a row has fewer."""
    n_open = is_open.sum(dim=1, keepdim=True)
    # At least one column, so that no tensor is empty.
    n_columns = max(int(n_open.max()), 1)
    columns = is_open.argsort(dim=1, descending=True, stable=True)[:, :n_columns]
    is_filled = torch.arange(n_columns, device=n_open.device) < n_open
    return columns, is_filled.to(is_open.dtype)


def _with_one(ball: Ball) -> Ball:
    """Return the ball `[P, q]` with a last entry that is 1."""
    one = torch.ones_like(ball.center[:, :1])
    return Ball(torch.cat([ball.center, one], dim=1), torch.cat([ball.radius, 0 * one], dim=1))
