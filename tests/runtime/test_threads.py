"""Chunks of rows in threads: the order of the results, and the number of threads that torch has."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from irpipe.runtime import threads
from irpipe.runtime.threads import map_row_chunks


def test_chunks_are_computed_separately_and_joined_in_order() -> None:
    rows = torch.arange(450)
    n_threads = torch.get_num_threads()
    sizes_and_threads = []

    def double(part: Tensor, other: Tensor) -> list[Tensor]:
        sizes_and_threads.append((len(part), torch.get_num_threads()))
        return [2 * part, other]

    doubled, unchanged = map_row_chunks(double, rows, rows + 7)
    assert doubled.tolist() == (2 * rows).tolist()
    assert unchanged.tolist() == (rows + 7).tolist()
    # The number of chunks is even and none has more than 200 rows.
    assert sorted(sizes_and_threads) == [(112, 1), (112, 1), (113, 1), (113, 1)]
    assert torch.get_num_threads() == n_threads


def test_few_rows_are_not_split() -> None:
    rows = torch.arange(8)
    n_threads = torch.get_num_threads()
    sizes_and_threads = []

    def double(part: Tensor) -> list[Tensor]:
        sizes_and_threads.append((len(part), torch.get_num_threads()))
        return [2 * part]

    assert map_row_chunks(double, rows)[0].tolist() == (2 * rows).tolist()
    assert sizes_and_threads == [(8, n_threads)]


def test_a_worker_keeps_its_one_thread_when_another_number_is_set_elsewhere() -> None:
    n_threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=threads._use_one_thread) as worker:
        worker.submit(int).result()  # a job that does not ask torch for its threads
        torch.set_num_threads(max(n_threads, 2))
        n_worker_threads = worker.submit(torch.get_num_threads).result()
    torch.set_num_threads(n_threads)
    assert n_worker_threads == 1


def test_an_error_in_a_chunk_is_raised() -> None:
    with pytest.raises(IndexError):
        map_row_chunks(lambda part: [part[:0][1]], torch.arange(50))


def test_the_caller_has_one_thread_meanwhile_and_its_own_number_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if a chunk fails."""
    usual = (torch.get_num_threads(), sys.getswitchinterval())
    settings = set()

    class CallerOnly:
        """Stands in for the pool and computes chunks in the calling thread."""

        map = map

    def look(part: Tensor) -> list[Tensor]:
        settings.add((torch.get_num_threads(), round(sys.getswitchinterval(), 6)))
        return [part]

    monkeypatch.setattr(threads, "_worker_pool", CallerOnly)
    map_row_chunks(look, torch.arange(20))
    with pytest.raises(IndexError):
        map_row_chunks(lambda part: [part[:0][1]], torch.arange(20))
    assert settings == {(1, threads.THREAD_SWITCH_SECONDS)}
    assert (torch.get_num_threads(), sys.getswitchinterval()) == usual
