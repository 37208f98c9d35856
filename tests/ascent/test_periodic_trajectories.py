"""Rows that repeat a cycle leave the batch. Every iterate still equals that of a plain loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from irpipe.ascent import snapshots
from irpipe.ascent.gradient_ascent import Update, linf_sign_update
from irpipe.ascent.snapshots import gradient_ascent_snapshots
from irpipe.networks.architectures import build
from irpipe.networks.folded import FoldedNetwork
from irpipe.runtime import threads


def walk(
    successors: list[int], starts: list[int], step_counts: list[int], detect_cycles: bool
) -> tuple[dict[int, list[int]], int]:
    """Where rows are at each step count if point k moves to `successors[k]`.

    Also return the number of moves of single rows that this took.
    """
    table = torch.tensor(successors, dtype=torch.float32)
    n_moves = 0

    def make_update(rows: Tensor) -> Update:
        def update(point: Tensor, gradient: Tensor) -> Tensor:
            nonlocal n_moves
            n_moves += len(rows)
            assert len(point) == len(gradient) == len(rows)
            return table[point.long()]

        return update

    def objective(point: Tensor, rows: Tensor) -> Tensor:
        return point.sum()

    start = torch.tensor(starts, dtype=torch.float32)[:, None]
    iterates = gradient_ascent_snapshots(
        start, objective, make_update, step_counts, detect_cycles=detect_cycles
    )
    positions = {count: points.flatten().int().tolist() for count, points in iterates}
    return positions, n_moves


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_tail_and_cycle_ends_where_a_plain_loop_does(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    points = st.integers(0, size - 1)
    successors = data.draw(st.lists(points, min_size=size, max_size=size))
    starts = data.draw(st.lists(points, min_size=1, max_size=6))
    step_counts = data.draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    expected = {}
    current = starts
    for count in range(1, max(step_counts) + 1):
        current = [successors[point] for point in current]
        if count in step_counts:
            expected[count] = current
    for detect_cycles in (True, False):
        positions, _ = walk(successors, starts, step_counts, detect_cycles)
        assert positions == expected
        assert list(positions) == sorted(set(step_counts))


@pytest.mark.parametrize(
    ("period", "n_moves"),
    [
        (1, 1),  # one step shows that the row stays where it is
        (2, 2),
        (5, 5),  # 200 = 5 * 40: the row ends at the anchor
        (7, 7 + 4),  # 200 = 7 * 28 + 4: it goes on to where it ends
        (12, 12 + 8),
        (13, 200),  # longer than MAX_PERIOD
    ],
)
def test_work_ends_with_the_first_return(period: int, n_moves: int) -> None:
    ring = [(point + 1) % period for point in range(period)]
    end = {200: [200 % period]}
    assert walk(ring, [0], [200], detect_cycles=True) == (end, n_moves)
    assert walk(ring, [0], [200], detect_cycles=False) == (end, 200)


def test_a_cycle_of_two_after_a_tail_is_detected_at_once() -> None:
    # The row is at 5 after five steps and again after seven. The end is an odd number of steps
    # later, so it takes one step more.
    successors = [1, 2, 3, 4, 5, 6, 5]
    assert walk(successors, [0], [200], detect_cycles=True) == ({200: [6]}, 8)


def test_chunks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    successors = [1, 2, 0, 4, 5, 6, 3]
    starts = [0, 3, 1, 4, 2, 5, 6]
    unsplit = walk(successors, starts, [2, 9, 50], detect_cycles=True)
    chunk_sizes: list[int] = []
    gradient = snapshots.objective_gradient

    def spy(objective: object, point: Tensor) -> Tensor:
        chunk_sizes.append(len(point))
        return gradient(objective, point)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots, "objective_gradient", spy)
    monkeypatch.setattr(threads, "ROWS_PER_CHUNK", 3)
    monkeypatch.setattr(threads, "MIN_ROWS_TO_SPLIT", 6)
    assert walk(successors, starts, [2, 9, 50], detect_cycles=True) == unsplit
    # Four chunks take the two steps up to the first step count.
    assert sorted(chunk_sizes[:8]) == [1, 1, 2, 2, 2, 2, 2, 2]


def test_rows_that_leave_do_not_move_those_that_stay() -> None:
    # Point 0 stays where it is, the others go round in a cycle of 14.
    successors = [0, *range(2, 15), 1]
    positions, n_moves = walk(successors, [0, 1, 0], [3, 20], detect_cycles=True)
    assert positions == {3: [0, 4, 0], 20: [0, 7, 0]}
    assert n_moves == 2 * 1 + 20


def test_sign_ascent_on_a_network_is_the_same_with_and_without_cycle_detection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Except where the rounding of a smaller batch changes a sign."""
    monkeypatch.setattr(threads, "MIN_ROWS_TO_SPLIT", 12)
    torch.manual_seed(0)
    network = build("small", (1, 28, 28), 10)
    torch.nn.init.normal_(network.head, std=0.3)
    folded = FoldedNetwork(network.requires_grad_(False), (1, 28, 28))
    images = torch.rand(12, 1, 28, 28)
    labels = torch.arange(12) % 10
    batch_sizes: list[int] = []

    def loss(points: Tensor, rows: Tensor) -> Tensor:
        batch_sizes.append(len(rows))
        return F.cross_entropy(folded(points), labels[rows], reduction="sum")

    def make_update(rows: Tensor) -> Update:
        return linf_sign_update(images[rows], 0.02, 0.02)

    def run(detect_cycles: bool) -> dict[int, Tensor]:
        return dict(
            gradient_ascent_snapshots(
                images, loss, make_update, [1, 7, 60], detect_cycles=detect_cycles
            )
        )

    without_detection = run(detect_cycles=False)
    with_detection = run(detect_cycles=True)
    assert batch_sizes[:60] == [12] * 60
    assert min(batch_sizes[60:]) < 12
    for count in (1, 7, 60):
        is_equal = without_detection[count] == with_detection[count]
        assert is_equal.double().mean() > 0.999
