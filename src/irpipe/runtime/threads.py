"""Work on rows of tensors in Python threads, each of which has one of torch's threads."""

import math
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch import Tensor

from irpipe.runtime.memory import map_fitting_rows

# The activations of more rows do not fit into a CPU's cache.
ROWS_PER_CHUNK = 200
# So few rows, or fewer, are not worth a second thread.
MIN_ROWS_TO_SPLIT = 8
# Of torch, in training. Weights depend on whether it has one thread or more.
N_TRAINING_THREADS = 2
# Python lets another thread run after so many seconds.
THREAD_SWITCH_SECONDS = 2e-4


def _use_one_thread() -> None:
    # torch sets up a thread's number at the first call there, to what was set last in any thread.
    # That call must come before ours, or it would undo ours.
    torch.get_num_threads()
    torch.set_num_threads(1)


@cache
def _worker_pool() -> ThreadPoolExecutor:
    """One worker for each of torch's threads. In a worker torch has one thread.

    So rows are shared out better than torch shares out small layers.
    """
    return ThreadPoolExecutor(torch.get_num_threads(), initializer=_use_one_thread)


@contextmanager
def single_threaded_torch() -> Iterator[None]:
    """Give torch one thread in the calling thread, and let Python's threads switch at once.

    Torch's other threads would spin for a while after each operation, on the workers' cores.
    In Python's usual 5 ms between switches, a waiting worker could have made a step.
    """
    n_threads = torch.get_num_threads()
    switch_interval = sys.getswitchinterval()
    _worker_pool()  # before the number of threads changes, which decides its size
    torch.set_num_threads(1)
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
        sys.setswitchinterval(switch_interval)


def single_threaded_on_cpu(device: torch.device) -> AbstractContextManager[None]:
    """`single_threaded_torch` for work on layers that are too small for more threads.

    On a GPU, nothing changes.
    """
    return single_threaded_torch() if device.type == "cpu" else nullcontext()


@contextmanager
def training_threads() -> Iterator[None]:
    """Give torch two threads in the calling thread, however many the machine or the user has.

    Torch sums the gradients of weights in another order with one thread than with several. So a
    fixed number makes the same weights on every number of cores. The workers keep all cores.
    """
    n_threads = torch.get_num_threads()
    _worker_pool()  # before the number of threads changes, which decides its size
    torch.set_num_threads(N_TRAINING_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def map_row_chunks(
    function: Callable[..., list[Tensor]],
    *tensors: Tensor,
    row_bytes: Callable[[], int] | None = None,
) -> list[Tensor]:
    """Return what `function` gives for `tensors` `[M, ...]`; compute chunks of rows in parallel.

    On a GPU, as many rows are computed at a time as fit (`map_fitting_rows`). For few rows,
    `function` is called once. The number of chunks is even and does not depend on the machine, so
    that rounding does not either.
    """
    n_rows = len(tensors[0])
    if tensors[0].device.type != "cpu":
        return map_fitting_rows(function, *tensors, row_bytes=row_bytes)
    if n_rows <= MIN_ROWS_TO_SPLIT:
        return function(*tensors)
    n_chunks = 2 * math.ceil(n_rows / 2 / ROWS_PER_CHUNK)
    chunks = (torch.tensor_split(tensor, n_chunks) for tensor in tensors)
    with single_threaded_torch():
        outputs = list(_worker_pool().map(function, *chunks))
    return [torch.cat(parts) for parts in zip(*outputs, strict=True)]
