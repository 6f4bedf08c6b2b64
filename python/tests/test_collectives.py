"""Every collective over shm and tcp, with torch tensors, NumPy arrays and plain buffers."""

from __future__ import annotations

import array

import numpy
import pytest
import torch

SIZES = [0, 1, 7, 4096, 70_001, 600_000]


def tensor(rank: int, size: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    # Small whole numbers: sums are exact in every type.
    return ((torch.arange(size) * 7 + rank * 3) % 11 - 5).to(dtype)


def unequal(communicator) -> None:
    """Rank a sends 1000 a + b elements to rank b, of a type that is only moved."""
    rank, ranks = communicator.rank, range(communicator.world)
    counts, out_counts = [1000 * rank + r for r in ranks], [1000 * r + rank for r in ranks]
    sent = numpy.concatenate([numpy.full(count, complex(rank, r)) for r, count in enumerate(counts)])
    out = numpy.empty(sum(out_counts), dtype=complex)
    communicator.all_to_all(sent, out=out, counts=counts, out_counts=out_counts)
    expected = [numpy.full(count, complex(r, rank)) for r, count in enumerate(out_counts)]
    assert (out == numpy.concatenate(expected)).all()


def everything(communicator) -> int:
    rank, world = communicator.rank, communicator.world
    checks = 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for size in SIZES:
            inputs = [tensor(r, size, dtype) for r in range(world)]
            stacked = torch.stack(inputs).float()
            mine = inputs[rank].clone()
            assert communicator.all_reduce(mine) is mine
            assert torch.equal(mine, stacked.sum(0).to(dtype))
            for op, expected in (("max", stacked.amax(0)), ("min", stacked.amin(0))):
                out = torch.empty(size, dtype=dtype)
                communicator.all_reduce(inputs[rank], op, out=out)
                assert torch.equal(out, expected.to(dtype))
                assert torch.equal(inputs[rank], tensor(rank, size, dtype)), "the input is left alone"
            gathered = torch.empty(world * size, dtype=dtype)
            communicator.all_gather(inputs[rank], out=gathered)
            assert torch.equal(gathered, torch.cat(inputs))
            block = torch.empty(size, dtype=dtype)
            long = [tensor(r + 5, world * size, dtype) for r in range(world)]
            communicator.reduce_scatter(long[rank], out=block)
            whole = torch.stack(long).float().sum(0).to(dtype)
            assert torch.equal(block, whole[rank * size : (rank + 1) * size])
            for root in range(world):
                moved = inputs[rank].clone()
                communicator.broadcast(moved, root=root)
                assert torch.equal(moved, inputs[root])
                out = torch.empty(world * size, dtype=dtype) if rank == root else None
                communicator.gather(inputs[rank], out=out, root=root)
                assert out is None or torch.equal(out, torch.cat(inputs))
            checks += 1
            for root in range(world):
                out = torch.empty(size, dtype=dtype) if rank == root else None
                communicator.reduce(inputs[rank], out=out, root=root)
                assert out is None or torch.equal(out, stacked.sum(0).to(dtype))
                communicator.scatter(torch.cat(inputs) if rank == root else None, out=block, root=root)
                assert torch.equal(block, inputs[rank])
            communicator.all_to_all(torch.cat(long).view(world, world, size)[rank].clone(), out=gathered)
            assert torch.equal(gathered.view(world, size), torch.cat(long).view(world, world, size)[:, rank])
    unequal(communicator)
    if world > 1:
        message = torch.arange(1000, dtype=torch.int64) if rank == 0 else torch.zeros(1000, dtype=torch.int64)
        if rank == 0:
            communicator.send(message, 1)
        elif rank == 1:
            communicator.recv(message, 0)
            assert torch.equal(message, torch.arange(1000))
    communicator.barrier()
    return checks


@pytest.mark.parametrize("transport", ["shm", "tcp"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_collective_is_right(values, transport, world):
    assert values(everything, world=world, transport=transport) == [3 * len(SIZES)] * world


def other_buffers(communicator):
    floats = numpy.full(1000, communicator.rank + 1, dtype=numpy.float32)
    communicator.all_reduce(floats)
    plain = array.array("f", [communicator.rank + 1.0] * 10)
    communicator.all_reduce(plain)
    everyone = bytearray(6)
    communicator.all_gather(b"abc" if communicator.rank == 0 else b"def", out=everyone)
    return floats.sum(), list(plain), bytes(everyone)


def test_numpy_arrays_and_plain_buffers_work_too(values):
    assert values(other_buffers) == [(3000.0, [3.0] * 10, b"abcdef")] * 2


def over_a_store(communicator):
    import halo

    store = torch.distributed.TCPStore("127.0.0.1", communicator.port, 2, communicator.rank == 0)
    with halo.Communicator.from_store(store, communicator.rank, 2, name="inner", transport="tcp") as inner:
        value = torch.ones(8)
        inner.all_reduce(value)
        inner.barrier()
        communicator.barrier()
        return value.sum().item(), inner.links[0].transport, inner.statistics()["operations"][0]["operation"]


def with_port(communicator):
    communicator.port = 0
    # The ranks agree on a port the way a program with a communicator would.
    import socket

    port = torch.zeros(1, dtype=torch.int32)
    if communicator.rank == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port[0] = probe.getsockname()[1]
    communicator.broadcast(port)
    communicator.port = int(port[0])
    return over_a_store(communicator)


def test_a_torch_store_is_enough_to_meet(values):
    assert values(with_port) == [(16.0, "tcp", "all_reduce")] * 2


def in_parts(communicator):
    rank, world = communicator.rank, communicator.world
    # The odd ranks, backwards; and one alone; rank 2 is left out.
    part = communicator.split({0: 0, 1: 1, 2: None, 3: 1}[rank], key=-rank)
    whole = torch.ones(4)
    communicator.all_reduce(whole)
    assert whole.tolist() == [world] * 4
    if part is None:
        return None
    with part:
        part.all_reduce(mine := torch.tensor([10.0**rank]))
        return part.rank, part.world, mine.item(), part.statistics()["name"] == part.name


def test_ranks_can_be_divided(values):
    assert values(in_parts, world=4) == [(0, 1, 1.0, True), (1, 2, 1010.0, True), None, (0, 2, 1010.0, True)]
