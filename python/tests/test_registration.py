"""Registered memory: accepted by every transport, and given back once."""

from __future__ import annotations

import gc

import numpy
import pytest
import torch


def registered(communicator) -> list[bool]:
    rank, world = communicator.rank, communicator.world
    tensor = torch.full((100_000,), float(rank + 1))
    out = torch.empty(world * 100_000)
    with communicator.register(tensor) as held, communicator.register(out), communicator.register(out[5:100]):
        communicator.all_gather(tensor, out=out)
        communicator.all_reduce(tensor)
        used = held.used
    held.close()
    assert torch.equal(out, torch.cat([torch.full((100_000,), float(r + 1)) for r in range(world)]))
    assert torch.equal(tensor, torch.full((100_000,), float(sum(range(1, world + 1)))))
    array = numpy.ones(50_000, dtype=numpy.float32)
    kept = communicator.register(array)
    del array
    gc.collect()
    del kept
    communicator.all_reduce(tensor)
    return [used, held.used]


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_registered_memory_changes_no_result(values, transport):
    assert values(registered, transport=transport) == [[False, False]] * 2


def refused(communicator) -> list[str]:
    codes = []
    for what in (torch.empty(0), b"constant", torch.empty(4, 4).t()):
        with pytest.raises(Exception) as raised:
            communicator.register(what)
        codes.append(raised.value.code)
    communicator.barrier()
    return codes


def test_what_cannot_be_registered_is_refused_by_name(values):
    assert values(refused, transport="shm") == [["HALO-E0226", "HALO-E0502", "HALO-E0502"]] * 2


def outliving(communicator) -> tuple[list[bool], str, float]:
    tensor, allocated = torch.ones(100_000), communicator.allocate(100_000, torch.float32)
    held = communicator.register(tensor)
    with held:
        communicator.all_reduce(tensor, out=allocated)
        communicator.close()
        communicator.close()
    held.close()
    with pytest.raises(Exception) as raised:
        communicator.register(tensor)
    return [held.used, communicator.close() is None], raised.value.code, allocated.mean().item()


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_what_outlives_its_communicator_can_be_used_and_closed(values, transport):
    assert values(outliving, transport=transport) == [([False, True], "HALO-E0225", 2.0)] * 2
