"""JPEG's linear part: colour transform, 4:2:0, 8x8 DCT and quantisation tables of quality 50, without rounding.

Source: ITU-T T.81, Annexes A and K; JFIF 1.02.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8
LUMA = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMA = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]  # the rest: 99
TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
TO_RGB = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


class Codec:
    """The codec for images of `shape` (C, H, W), which are padded by their edge to whole blocks.

    Three channels are coded as luma and chroma of half the resolution, others each as luma. Coefficients are
    `[N, K]` in quantisation steps; both ways are affine in pixels `[N, C, H, W]`, 0..255.
    """

    def __init__(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.channels, self.height, self.width = shape
        self.colour = self.channels == 3
        unit = 2 * BLOCK if self.colour else BLOCK
        self.margin = (0, -self.width % unit, 0, -self.height % unit)
        cosine = [[math.cos((2 * x + 1) * u * math.pi / 16) / 2 for x in range(BLOCK)] for u in range(BLOCK)]
        luma, chroma, waves, self.ycc, self.rgb = (
            torch.tensor(matrix, device=device, dtype=dtype) for matrix in (LUMA, CHROMA, cosine, TO_YCC, TO_RGB)
        )
        waves[0] /= math.sqrt(2)
        transform = torch.kron(waves, waves)  # of blocks as rows of 64
        tables = [table.flatten()[:, None] for table in (luma, F.pad(chroma, (0, 4, 0, 4), value=99))]
        self.forward = [(transform / table).T for table in tables]
        self.backward = [transform * table for table in tables]

    def _parts(self) -> list[tuple[int, int, int]]:
        """Channels, zoom and table of each part of the coefficients."""
        return [(1, 1, 0), (2, 2, 1)] if self.colour else [(self.channels, 1, 0)]

    def encode(self, pixels: Tensor) -> Tensor:
        """Coefficients of pixels."""
        planes = F.pad(pixels - 128, self.margin, mode="replicate")  # shifts luma, as is due; chroma are differences
        planes = torch.einsum("dc,nchw->ndhw", self.ycc, planes) if self.colour else planes
        found, parts = [], self._parts()
        for (_, zoom, table), part in zip(parts, torch.split(planes, [c for c, _, _ in parts], dim=1), strict=True):
            blocks = F.avg_pool2d(part, zoom).unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
            found.append((blocks.flatten(4) @ self.forward[table]).flatten(1))
        return torch.cat(found, dim=1)

    def decode(self, coefficients: Tensor) -> Tensor:
        """Pixels of coefficients, not clipped."""
        height, width = self.height + self.margin[3], self.width + self.margin[1]
        planes, parts = [], self._parts()
        sizes = [count * height * width // zoom**2 for count, zoom, _ in parts]
        for (count, zoom, table), part in zip(parts, torch.split(coefficients, sizes, dim=1), strict=True):
            rows, columns = height // (BLOCK * zoom), width // (BLOCK * zoom)
            blocks = part.view(-1, count, rows, columns, BLOCK**2) @ self.backward[table]
            plane = blocks.view(-1, count, rows, columns, BLOCK, BLOCK).transpose(3, 4).flatten(4).flatten(2, 3)
            planes.append(F.interpolate(plane, scale_factor=zoom) if zoom > 1 else plane)
        whole = torch.cat(planes, dim=1)[:, :, : self.height, : self.width]
        return 128 + (torch.einsum("dc,nchw->ndhw", self.rgb, whole) if self.colour else whole)
