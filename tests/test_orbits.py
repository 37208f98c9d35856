"""Leaving trajectories that repeat: exactly where the plain loop would be, with less work."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from irpipe import ascent
from irpipe.ascent import attain, in_parts, sign_steps
from irpipe.models import Folded, build

Successors = list[int]


def walk(successor: Successors, starts: list[int], counts: list[int], leave: bool) -> tuple[dict[int, list[int]], int]:
    """Where rows stand after each count if point k goes to `successor[k]`, and how many moves that took."""
    table, moves = torch.tensor(successor, dtype=torch.float32), 0

    def update(rows: Tensor) -> ascent.Update:
        def onward(point: Tensor, gradient: Tensor) -> Tensor:
            nonlocal moves
            moves += len(rows)
            assert len(point) == len(gradient) == len(rows)
            return table[point.long()]

        return onward

    def objective(point: Tensor, rows: Tensor) -> Tensor:
        return point.sum()

    start = torch.tensor(starts, dtype=torch.float32)[:, None]
    found = attain(start, objective, update, counts, leave=leave)
    return {count: points.flatten().int().tolist() for count, points in found}, moves


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_tail_and_cycle_ends_where_plain_iteration_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    places = st.integers(0, size - 1)
    successor = data.draw(st.lists(places, min_size=size, max_size=size))
    starts = data.draw(st.lists(places, min_size=1, max_size=6))
    counts = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    expected, here = {}, starts
    for count in range(1, max(counts) + 1):
        here = [successor[place] for place in here]
        if count in counts:
            expected[count] = here
    for leave in (True, False):
        found, _ = walk(successor, starts, counts, leave)
        assert found == expected
        assert list(found) == sorted(set(counts))


@pytest.mark.parametrize(
    ("cycle", "moves"),
    [
        (1, 1),  # stands still: seen at once
        (2, 2),
        (5, 5),  # 200 = 5 * 40: stands at the anchor again
        (7, 7 + 4),  # 200 = 7 * 28 + 4: goes on to where it will be
        (12, 12 + 8),
        (13, 200),  # longer than the anchor is kept
    ],
)
def test_work_ends_with_the_first_return(cycle: int, moves: int) -> None:
    ring = [(place + 1) % cycle for place in range(cycle)]
    assert walk(ring, [0], [200], leave=True) == ({200: [200 % cycle]}, moves)
    assert walk(ring, [0], [200], leave=False) == ({200: [200 % cycle]}, 200)


def test_a_cycle_of_two_behind_a_tail_is_seen_at_once() -> None:
    # at 5 after five steps and again after seven; 200 is an odd number of steps later, so it takes one more
    assert walk([1, 2, 3, 4, 5, 6, 5], [0], [200], leave=True) == ({200: [6]}, 8)


def test_parts_are_worked_out_apart_and_joined_in_order() -> None:
    rows, sizes, threads = torch.arange(450), [], torch.get_num_threads()

    def double(part: Tensor, named: Tensor) -> list[Tensor]:
        sizes.append((len(part), torch.get_num_threads()))
        return [2 * part, named]

    twice, named = in_parts(double, rows, rows + 7)
    assert twice.tolist() == (2 * rows).tolist()
    assert named.tolist() == (rows + 7).tolist()
    assert sorted(sizes) == [(112, 1), (112, 1), (113, 1), (113, 1)]  # even, and each of at most 200
    assert torch.get_num_threads() == threads
    assert in_parts(double, rows[:8], rows[:8])[0].tolist() == (2 * rows[:8]).tolist()
    assert sizes[-1] == (8, threads)  # too few to share out


def test_a_worker_keeps_its_one_thread_whatever_is_set_elsewhere() -> None:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, initializer=ascent._single) as worker:
        worker.submit(int).result()  # nothing that asks torch for its threads
        torch.set_num_threads(max(threads, 2))
        seen = worker.submit(torch.get_num_threads).result()
    torch.set_num_threads(threads)
    assert seen == 1


def test_what_fails_in_a_part_fails() -> None:
    with pytest.raises(IndexError):
        in_parts(lambda part: [part[:0][1]], torch.arange(50))


def test_rows_are_taken_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    successor, starts = [1, 2, 0, 4, 5, 6, 3], [0, 3, 1, 4, 2, 5, 6]
    whole = walk(successor, starts, [2, 9, 50], leave=True)
    seen: list[int] = []
    gradient = ascent._gradient
    monkeypatch.setattr(ascent, "_gradient", lambda given, point: seen.append(len(point)) or gradient(given, point))
    monkeypatch.setattr(ascent, "ROWS", 3)
    monkeypatch.setattr(ascent, "FEW", 6)
    assert walk(successor, starts, [2, 9, 50], leave=True) == whole
    assert sorted(seen[:8]) == [1, 1, 2, 2, 2, 2, 2, 2]  # four parts, two steps until they meet


def test_rows_that_left_do_not_move_those_that_stay() -> None:
    successor = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1]  # 0 stands, the others go round in 14
    found, moves = walk(successor, [0, 1, 0], [3, 20], leave=True)
    assert found == {3: [0, 4, 0], 20: [0, 7, 0]}
    assert moves == 2 * 1 + 20


def test_sign_ascent_on_a_network_is_the_same_with_and_without_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a sign that the smaller batch's rounding turns."""
    monkeypatch.setattr(ascent, "FEW", 12)
    torch.manual_seed(0)
    network = build("small", (1, 28, 28), 10)
    torch.nn.init.normal_(network.head, std=0.3)
    folded = Folded(network.requires_grad_(False), (1, 28, 28))
    images, labels = torch.rand(12, 1, 28, 28), torch.arange(12) % 10
    sizes: list[int] = []

    def loss(points: Tensor, rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return F.cross_entropy(folded(points), labels[rows], reduction="sum")

    def update(rows: Tensor) -> ascent.Update:
        return sign_steps(images[rows], 0.02, 0.02)

    found: list[Any] = [dict(attain(images, loss, update, [1, 7, 60], leave=leave)) for leave in (False, True)]
    assert sizes[:60] == [12] * 60
    assert min(sizes[60:]) < 12
    for count in (1, 7, 60):
        assert (found[0][count] == found[1][count]).double().mean() > 0.999


def test_the_caller_has_one_thread_while_parts_are_worked_out_and_its_own_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a part fails."""
    usual, seen = (torch.get_num_threads(), sys.getswitchinterval()), set()

    class Here:  # instead of workers
        map = map

    def look(part: Tensor) -> list[Tensor]:
        seen.add((torch.get_num_threads(), round(sys.getswitchinterval(), 6)))
        return [part]

    monkeypatch.setattr(ascent, "_threads", Here)
    in_parts(look, torch.arange(20))
    with pytest.raises(IndexError):
        in_parts(lambda part: [part[:0][1]], torch.arange(20))
    assert seen == {(1, ascent.TURN)}
    assert (torch.get_num_threads(), sys.getswitchinterval()) == usual
