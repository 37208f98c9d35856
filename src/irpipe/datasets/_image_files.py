"""Images that stay in their files until they are asked for."""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from irpipe.errors import IrpipeError, reason_of

# A process that reads images starts in seconds, in which another reads so many batches.
BATCHES_PER_WORKER = 16
MAX_WORKERS = 8


class ImageFiles:
    """A stand-in for a tensor of images `[N, C, H, W]` that a computer's memory cannot hold.

    `files[rows]` reads the images at `rows`, a slice or an array of indices. A kind's `load` ends
    with

        return Images(ImageFiles(paths, read, SHAPE), labels)

    `read(path)` returns one image of `shape` (C, H, W), float32 in [0, 1], or raises an
    IrpipeError that names the file. It is a function of a module, because other processes call it.
    """

    dtype = torch.float32

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[Path], Tensor],
        shape: tuple[int, int, int],
    ) -> None:
        self.paths = paths
        self.read = read
        self.shape = (len(paths), *shape)

    def __len__(self) -> int:
        """Return N."""
        return len(self.paths)

    def __getitem__(self, rows: slice | np.ndarray | Tensor) -> Tensor:
        """Read the images at `rows`, `[n, C, H, W]`."""
        images = [self._read(self.paths[row]) for row in np.arange(len(self))[rows]]
        return torch.stack(images) if images else torch.empty(0, *self.shape[1:])

    def _read(self, path: Path) -> Tensor:
        """Read one image. `read` may be of anybody: raises IrpipeError if it gives another one."""
        image = self.read(path)
        shape = self.shape[1:]
        if not isinstance(image, Tensor) or (image.dtype, image.shape) != (self.dtype, shape):
            found = type(image).__name__
            if isinstance(image, Tensor):
                found = f"{image.dtype} {list(image.shape)}"
            raise IrpipeError(f"{path}: read as {found}, expected {self.dtype} {list(shape)}")
        check_range(image, path)
        return image

    def part(self, rows: slice) -> "ImageFiles":
        """The files at `rows`, unread."""
        return ImageFiles(self.paths[rows], self.read, self.shape[1:])

    def batches(self, rows: Sequence[np.ndarray]) -> Iterator[Tensor]:
        """Yield the images at each of `rows`, `[n, C, H, W]`.

        If there are many, other processes read ahead. They are started afresh: a fork would
        keep the lock of a training that was killed.
        """
        n_workers = min(len(os.sched_getaffinity(0)), len(rows) // BATCHES_PER_WORKER, MAX_WORKERS)
        loader = DataLoader(
            _Batches(self, rows),
            batch_size=None,
            num_workers=n_workers,
            collate_fn=_unchanged,
            worker_init_fn=_ignore_stop_signals,
            multiprocessing_context=_fresh_processes(self.read) if n_workers else None,
        )
        try:
            for batch in loader:
                if isinstance(batch, IrpipeError):
                    raise batch
                yield torch.from_numpy(batch)
        except RuntimeError as error:
            reason = reason_of(error)
            raise IrpipeError(f"reading images: {reason}; run again, with more memory") from error


def check_range(images: Tensor, location: str | Path) -> None:
    """Raise IrpipeError, naming `location`, unless all pixels are in [0, 1]."""
    low, high = (bound.item() for bound in images.detach().aminmax())
    # Written so that NaN, which fails every comparison, is refused.
    if not (low >= 0 and high <= 1):
        raise IrpipeError(f"{location}: pixels from {low:g} to {high:g}, expected 0 to 1")


class _Batches(Dataset[np.ndarray | IrpipeError]):
    """The batches of one call of `ImageFiles.batches`.

    They are arrays, because tensors would travel in shared memory, of which containers have
    little. An error is returned, because a raised one would arrive with a traceback in its text.
    """

    def __init__(self, files: ImageFiles, rows: Sequence[np.ndarray]) -> None:
        self.files = files
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray | IrpipeError:
        try:
            return self.files[self.rows[index]].numpy()
        except IrpipeError as error:
            return error


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_stop_signals(_: int) -> None:
    """Leave a stop to the main process, which may still need images; they end with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _kill_readers() -> None:
    """End the processes that read ahead when the main process ends.

    Python would ask them to end, by SIGTERM, and wait for ever.
    """
    for process in multiprocessing.active_children():
        if process.daemon:  # as torch starts them
            process.kill()


def _fresh_processes(read: Callable[[Path], Tensor]) -> multiprocessing.context.BaseContext:
    """Processes by way of one that has imported what `read` needs, but shares nothing with us."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, read.__module__])
    return context
