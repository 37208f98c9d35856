"""Products of leaves with the matrices of their places, whatever the places' numbers of leaves."""

import torch

from irpipe.certification.chunks import MAX_CHUNK, Chunks, chunk_order


def test_products_and_sums_are_those_of_single_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    # Places with no, one and several leaves, and with more than two chunks of the largest size.
    n_rows = torch.tensor([1, 0, 7, 2 * MAX_CHUNK + 5, MAX_CHUNK - 1])
    place = torch.arange(5).repeat_interleave(n_rows)
    place = place[torch.randperm(len(place), generator=generator)]
    order = chunk_order(place)
    assert order.sort().values.tolist() == list(range(len(place)))
    place = place[order]
    rows = torch.randn(len(place), 3, generator=generator)
    matrices = torch.randn(5, 3, 4, generator=generator)
    addend = torch.randn(5, 4, generator=generator)
    chunks = Chunks(place)
    expected = (rows[:, :, None] * matrices[place]).sum(dim=1)
    product = chunks.product(rows, matrices[chunks.places])
    torch.testing.assert_close(product, expected)
    product = chunks.product(rows, matrices[chunks.places], addend[chunks.places])
    torch.testing.assert_close(product, expected - addend[place])
    weights = torch.rand(len(place), generator=generator)
    sums = torch.zeros(5, 3).index_add(0, place, weights[:, None] * rows)
    torch.testing.assert_close(chunks.sums(weights, rows, 5), sums)
