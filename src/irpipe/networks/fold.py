"""Sums of overlapping patches that are fast on a CPU."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Fold(torch.autograd.Function):
    """`fold`, whose derivative is `F.unfold`."""

    @staticmethod
    def forward(
        ctx: Any,
        patches: Tensor,
        size: Sequence[int],
        kernel_size: Sequence[int],
        padding: int,
        stride: int,
    ) -> Tensor:
        """Return the images, whose entries are sums over patches."""
        ctx.kernel_size, ctx.padding, ctx.stride = kernel_size, padding, stride
        padded = [length + 2 * padding for length in size]
        height, width = (
            (length - side) // stride + 1 for length, side in zip(padded, kernel_size, strict=True)
        )
        n_images, n_rows, _ = patches.shape
        n_channels = n_rows // math.prod(kernel_size)
        patches = patches.view(n_images, n_channels, *kernel_size, height, width)
        rows, columns = (math.ceil(length / stride) for length in padded)
        # sums[:, :, i, j, a, b] is pixel (a stride + i, b stride + j) of the padded images.
        sums = patches.new_zeros(n_images, n_channels, stride, stride, rows, columns)
        for top, left in product(*(range(0, side, stride) for side in kernel_size)):
            part = patches[:, :, top : top + stride, left : left + stride]
            a, b = top // stride, left // stride
            target = sums[:, :, : part.shape[2], : part.shape[3]]
            target[..., a : a + height, b : b + width].add_(part)
        images = F.pixel_shuffle(sums.flatten(1, 3), stride)
        return images[:, :, padding : padding + size[0], padding : padding + size[1]].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the gradient for the patches."""
        patches = F.unfold(gradients[0], ctx.kernel_size, padding=ctx.padding, stride=ctx.stride)
        return patches, None, None, None, None


def fold(
    patches: Tensor, size: Sequence[int], kernel_size: Sequence[int], padding: int, stride: int
) -> Tensor:
    """Images `[N, C, *size]`: the sum of their patches `[N, C kh kw, patches]`.

    This is `F.fold`, with the same rounding. On a CPU, it adds a pixel of all patches at a time,
    where torch goes through the patches one by one, which takes twice as long.
    """
    if patches.device.type != "cpu":
        return F.fold(patches, tuple(size), tuple(kernel_size), padding=padding, stride=stride)
    images: Tensor = _Fold.apply(  # type: ignore[no-untyped-call]
        patches, size, kernel_size, padding, stride
    )
    return images
