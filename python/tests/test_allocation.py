"""Memory that all ranks allocate together: results are the same, and it lives as long as its last view."""

from __future__ import annotations

import gc

import numpy
import pytest
import torch


def in_place_bytes(communicator) -> int:
    return sum(link["bytes_sent_in_place"] for link in communicator.statistics()["links"])


def allocated(communicator) -> tuple[int, str]:
    rank, world = communicator.rank, communicator.world
    tensor = communicator.allocate((100, 1000), torch.bfloat16)
    out = communicator.allocate(100_000, torch.bfloat16)
    assert tensor.shape == (100, 1000) and not tensor.any()
    expected = torch.full((100_000,), float(sum(range(1, world + 1))), dtype=torch.bfloat16)
    for _ in range(2):
        tensor.fill_(rank + 1)
        communicator.all_reduce(tensor.view(-1), out=out)
        assert torch.equal(out, expected)
        communicator.all_reduce(tensor)
        assert torch.equal(tensor.view(-1), expected)
        tensor.fill_(rank + 1)
        communicator.all_reduce(tensor, out=tensor)
        assert torch.equal(tensor.view(-1), expected)
    # A view keeps the memory when the tensor itself is gone.
    view = out[1000:1010]
    del out
    gc.collect()
    assert torch.equal(view, expected[:10])
    array = communicator.allocate((3, 5), numpy.float64)
    array += rank
    communicator.all_reduce(array, op="max")
    assert (array == world - 1).all()
    return in_place_bytes(communicator), str(array.dtype)


def test_ranks_of_one_host_read_where_it_lies_unless_the_result_goes_there(values):
    for in_place, dtype in values(allocated, transport="shm"):
        assert (in_place, dtype) == (2 * 200_000, "float64")


def test_over_tcp_results_are_the_same(values):
    assert values(allocated, transport="tcp") == [(0, "float64")] * 2


def refused(communicator) -> list[str]:
    codes = []
    for shape in (-1, 0, (2, "x")):
        with pytest.raises(Exception) as raised:
            communicator.allocate(shape, torch.float32)
        codes.append(getattr(raised.value, "code", type(raised.value).__name__))
    communicator.barrier()
    return codes


def test_a_shape_that_is_none_harms_nothing(values):
    assert values(refused, transport="shm") == [["HALO-E0502"] * 3] * 2


def differing(communicator) -> None:
    communicator.allocate(communicator.rank + 1, torch.float32)


def test_sizes_that_differ_are_an_error_on_every_rank(ranks):
    for kind, (_, code, text, _) in ranks(differing, transport="shm"):
        assert (kind, code) == ("halo", "HALO-E0208") and "bytes to allocate" in text
