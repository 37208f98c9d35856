"""Products of leaves with the matrices of their places, as few batched products."""

import torch
from torch import Tensor

# The sizes of chunks are powers of 2. Larger ones read each matrix less often.
MAX_CHUNK = 64


def chunk_order(place: Tensor) -> Tensor:
    """Return an order of rows at these places `[N]` that `Chunks` can cut."""
    by_place = place.argsort(stable=True)
    return by_place[_chunk_sizes(place[by_place]).argsort(descending=True, stable=True)]


def _chunk_sizes(place: Tensor) -> Tensor:
    """Return the size of the chunk of each row, `[N]`.

    The n rows of a place are cut into chunks of MAX_CHUNK, and the rest of n by its binary digits.
    """
    order = place.argsort(stable=True)
    n_rows = torch.bincount(place)
    first = n_rows.cumsum(0) - n_rows
    # How many rows of its place come before a row, and how many rows the place has.
    rank = torch.empty_like(place)
    rank[order] = torch.arange(len(place), device=place.device) - first[place[order]]
    n_rows = n_rows[place]
    whole = n_rows // MAX_CHUNK * MAX_CHUNK
    size = torch.where(rank < whole, MAX_CHUNK, 0)
    start = whole
    digit = MAX_CHUNK // 2
    while digit:
        length = n_rows & digit
        size = torch.where((rank >= start) & (rank < start + length), digit, size)
        start = start + length
        digit //= 2
    return size


class Chunks:
    """Rows in `chunk_order`, cut into chunks of equal places.

    The chunks of one size are one batched product. `places` has the place of each chunk.
    """

    def __init__(self, place: Tensor) -> None:
        sizes, n_rows = torch.unique_consecutive(_chunk_sizes(place), return_counts=True)
        # For each size: its chunks, their rows, and the size.
        self.parts: list[tuple[slice, slice, int]] = []
        places = []
        first_chunk, first = 0, 0
        for size, count in zip(sizes.tolist(), n_rows.tolist(), strict=True):
            chunks = slice(first_chunk, first_chunk + count // size)
            rows = slice(first, first + count)
            self.parts.append((chunks, rows, size))
            places.append(place[rows][::size])
            first_chunk, first = chunks.stop, rows.stop
        self.places = torch.cat(places)

    def product(self, rows: Tensor, matrices: Tensor, addend: Tensor | None = None) -> Tensor:
        """Return `rows` `[N, i]` times `matrices`, less `addend` if there is one, `[N, j]`.

        The matrices `[n, i, j]` and addends `[n, j]` have one row for each of the n chunks.
        """
        products = rows.new_empty(len(rows), matrices.shape[2])
        for chunks, part, size in self.parts:
            factor = rows[part].view(-1, size, rows.shape[1])
            product = products[part].view(-1, size, products.shape[1])
            if addend is None:
                torch.bmm(factor, matrices[chunks], out=product)
            else:
                start = addend[chunks, None]
                torch.baddbmm(start, factor, matrices[chunks], beta=-1, out=product)
        return products

    def sums(self, weights: Tensor, rows: Tensor, n_places: int) -> Tensor:
        """Return the sums of `weights` `[N]` times `rows` `[N, j]` at each place, `[P, j]`."""
        sums = [
            torch.bmm(weights[part].view(-1, 1, size), rows[part].view(-1, size, rows.shape[1]))
            for _, part, size in self.parts
        ]
        total = rows.new_zeros(n_places, rows.shape[1])
        return total.index_add_(0, self.places, torch.cat(sums)[:, 0])
