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


def in_place(communicator) -> None:
    rank, world = communicator.rank, communicator.world
    for size in (1, 4096, 600_000):
        inputs = [tensor(r, world * size) for r in range(world)]
        total = torch.stack(inputs).sum(0)
        own = slice(rank * size, (rank + 1) * size)
        both = inputs[rank].clone()
        assert communicator.all_reduce(both, out=both.view(world, size)) is not both
        assert torch.equal(both, total)
        both = inputs[rank].clone()
        communicator.reduce_scatter(both, out=both[own])
        assert torch.equal(both[own], total[own])
        rest = torch.ones(world * size, dtype=torch.bool)
        rest[own] = False
        assert torch.equal(both[rest], inputs[rank][rest]), "the other blocks are left alone"
        blocks = torch.cat([inputs[r][r * size : (r + 1) * size] for r in range(world)])
        both = inputs[rank].clone()
        communicator.all_gather(both[own], out=both)
        assert torch.equal(both, blocks)
        for root in range(world):
            both = inputs[rank].clone()
            communicator.reduce(both, out=both, root=root)
            assert torch.equal(both, total if rank == root else inputs[rank])
            both = inputs[rank].clone()
            communicator.gather(both[own], out=both, root=root)
            assert torch.equal(both, blocks if rank == root else inputs[rank])


@pytest.mark.parametrize("transport", ["shm", "tcp"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_input_in_its_place_of_the_output_is_an_operation_in_place(values, transport, world):
    values(in_place, world=world, transport=transport)


FLOATS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
]
INTEGERS = [
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]


def every_type(communicator):
    rank = communicator.rank
    for dtype in [*FLOATS, *INTEGERS, torch.bool]:
        # Every byte, so that 8-bit floats come with their NaNs, infinities and overflows; as numbers elsewhere.
        small = dtype.itemsize == 1 and dtype.is_floating_point
        patterns = [(torch.arange(256) * (2 * r + 1) + 7 * r) % 256 for r in range(3)]
        lowest = -100 if dtype.is_signed else 0
        inputs = [p.to(torch.uint8).view(dtype) if small else (p + lowest).to(dtype) for p in patterns]
        wide = torch.float64 if dtype == torch.float64 else torch.float32 if dtype.is_floating_point else torch.int64
        a, b, c = (tensor.to(wide) for tensor in inputs)
        expected = {"sum": a + b + c, "prod": a * b * c, "max": a.maximum(b).maximum(c), "min": a.minimum(b).minimum(c)}
        if dtype == torch.bool:
            expected = {op: value != 0 for op, value in expected.items()}
        elif dtype.is_floating_point:
            expected["avg"] = (a + b + c) / 3
        for op, value in expected.items():
            out = inputs[rank].clone()
            communicator.all_reduce(out, op)
            # Compared as numbers: zeros have signs, and NaNs are never equal.
            out, value = out.to(wide), value.to(dtype).to(wide)
            assert torch.equal(out.nan_to_num(nan=-1e9), value.nan_to_num(nan=-1e9)), (dtype, op, out, value)


def test_every_type_reduces_as_torch_computes_and_converts(values):
    values(every_type, world=3)


def numpy_types(communicator):
    sums = []
    for name in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]:
        value = numpy.full(3, communicator.rank + 1, dtype=name)
        communicator.all_reduce(value)
        sums.append(value.tolist())
    return sums


def test_every_numpy_type_is_known(values):
    assert values(numpy_types) == [[[3] * 3] * 11 + [[True] * 3]] * 2


def rounded_each(communicator):
    value = torch.tensor([256.0 if communicator.rank == 0 else 1.0], dtype=torch.bfloat16)
    communicator.all_reduce(value)
    return value.item()


def test_sums_round_once_or_after_each_step(values):
    assert values(rounded_each, world=3) == [258.0] * 3
    assert values(rounded_each, world=3, rounding="each") == [256.0] * 3


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

    # The ranks agree on a port the way a program with a communicator would.
    port = torch.zeros(1, dtype=torch.int32)
    if communicator.rank == 0:
        store = torch.distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
        port[0] = store.port
    communicator.broadcast(port)
    if communicator.rank == 1:
        store = torch.distributed.TCPStore("127.0.0.1", int(port[0]), 2, is_master=False)
    with halo.Communicator.from_store(store, communicator.rank, 2, name="inner", transport="tcp") as inner:
        value = torch.ones(8)
        inner.all_reduce(value)
        inner.barrier()
        communicator.barrier()
        return value.sum().item(), inner.links[0].transport, inner.statistics()["operations"][0]["operation"]


def test_a_torch_store_is_enough_to_meet(values):
    assert values(over_a_store) == [(16.0, "tcp", "all_reduce")] * 2


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
