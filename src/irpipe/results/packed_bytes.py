"""Bytes of different lengths as two arrays, because a result holds nothing but arrays."""

from collections.abc import Iterator

import numpy as np

from irpipe.errors import IrpipeError


def pack(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all bytes, `[B]` uint8, and the length of each item, int64 in the shape of `items`.

    `items` is an array of Python's `bytes`. They follow each other in the order of its entries.
    """
    content = np.frombuffer(b"".join(items.ravel()), dtype=np.uint8)
    sizes = np.array([len(item) for item in items.ravel()], dtype=np.int64)
    return content, sizes.reshape(items.shape)


def unpack(content: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield index and bytes of each item of `pack` that is not empty.

    Raises IrpipeError if the sizes do not fit the content.
    """
    if (sizes < 0).any() or sizes.sum() != len(content):
        raise IrpipeError(f"{len(content)} bytes, but their sizes add up to {sizes.sum()}")
    end = 0
    for index, size in np.ndenumerate(sizes):
        start, end = end, end + int(size)
        if size:
            yield index, content[start:end].tobytes()
