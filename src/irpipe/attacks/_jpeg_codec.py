"""JPEG's affine part, without rounding: colour transform, 4:2:0, 8x8 DCT, tables of quality 50.

U.3 says how the attack uses it. Source: ITU-T T.81, Annexes A and K; JFIF 1.02.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK_SIZE = 8  # pixels
LUMA_TABLE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
# The upper left corner of the chroma table. The rest of it is 99.
CHROMA_CORNER = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
CHROMA_REST = 99
TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
TO_RGB = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


class _Component(NamedTuple):
    """Channels that are coded alike."""

    n_channels: int
    subsampling: int  # pixels of the image per pixel of the channel, in each direction
    table: int  # 0: luma, 1: chroma


class Codec:
    """The codec for images of `shape` (C, H, W), which it pads by their edge to full blocks.

    Three channels are coded as luma and as chroma of half the resolution. Other numbers of
    channels are coded as luma each. Coefficients are `[N, K]`, in quantisation steps; pixels are
    `[N, C, H, W]` in 0..255. Both directions are affine.
    """

    def __init__(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        n_channels, self.height, self.width = shape
        self.is_colour = n_channels == 3
        if self.is_colour:
            self.components = [_Component(1, 1, 0), _Component(2, 2, 1)]
        else:
            self.components = [_Component(n_channels, 1, 0)]
        unit = 2 * BLOCK_SIZE if self.is_colour else BLOCK_SIZE
        self.padding = (0, -self.width % unit, 0, -self.height % unit)
        # Row u is the cosine of frequency u: the orthonormal DCT-II of 8 pixels.
        cosines = [
            [math.cos((2 * x + 1) * u * math.pi / 16) / 2 for x in range(BLOCK_SIZE)]
            for u in range(BLOCK_SIZE)
        ]
        luma, chroma, dct, self.to_ycc, self.to_rgb = (
            torch.tensor(matrix, device=device, dtype=dtype)
            for matrix in (LUMA_TABLE, CHROMA_CORNER, cosines, TO_YCC, TO_RGB)
        )
        dct[0] /= math.sqrt(2)
        chroma = F.pad(chroma, (0, 4, 0, 4), value=CHROMA_REST)
        block_dct = torch.kron(dct, dct)  # of a block as a vector of 64
        tables = [table.flatten()[:, None] for table in (luma, chroma)]
        # One matrix per table: blocks as rows, times the matrix.
        self.to_coefficients = [(block_dct / table).T for table in tables]
        self.to_blocks = [block_dct * table for table in tables]

    def encode(self, pixels: Tensor) -> Tensor:
        """Coefficients `[N, K]` of pixels `[N, C, H, W]`."""
        # JPEG shifts luma by 128. Chroma are differences of channels, so the shift cancels there.
        channels = F.pad(pixels - 128, self.padding, mode="replicate")
        if self.is_colour:
            channels = torch.einsum("dc,nchw->ndhw", self.to_ycc, channels)
        sizes = [component.n_channels for component in self.components]
        parts = torch.split(channels, sizes, dim=1)
        coefficients = []
        for component, part in zip(self.components, parts, strict=True):
            planes = F.avg_pool2d(part, component.subsampling)
            rows = planes.unfold(2, BLOCK_SIZE, BLOCK_SIZE)
            blocks = rows.unfold(3, BLOCK_SIZE, BLOCK_SIZE).flatten(4)
            coefficients.append((blocks @ self.to_coefficients[component.table]).flatten(1))
        return torch.cat(coefficients, dim=1)

    def decode(self, coefficients: Tensor) -> Tensor:
        """Pixels `[N, C, H, W]` of coefficients `[N, K]`, not clipped."""
        height = self.height + self.padding[3]
        width = self.width + self.padding[1]
        sizes = [
            component.n_channels * height * width // component.subsampling**2
            for component in self.components
        ]
        parts = torch.split(coefficients, sizes, dim=1)
        planes = []
        for (n_channels, subsampling, table), part in zip(self.components, parts, strict=True):
            n_rows = height // (BLOCK_SIZE * subsampling)
            n_columns = width // (BLOCK_SIZE * subsampling)
            blocks = part.view(-1, n_channels, n_rows, n_columns, BLOCK_SIZE**2)
            blocks = blocks @ self.to_blocks[table]
            blocks = blocks.view(-1, n_channels, n_rows, n_columns, BLOCK_SIZE, BLOCK_SIZE)
            plane = blocks.transpose(3, 4).flatten(4).flatten(2, 3)
            if subsampling > 1:
                plane = F.interpolate(plane, scale_factor=subsampling)
            planes.append(plane)
        channels = torch.cat(planes, dim=1)[:, :, : self.height, : self.width]
        if self.is_colour:
            channels = torch.einsum("dc,nchw->ndhw", self.to_rgb, channels)
        return 128 + channels
