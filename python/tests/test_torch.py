"""The torch.distributed backend: every operation against what PyTorch documents for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import halo
import pytest
import torch
import torch.distributed as dist


def block(rank: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Small whole numbers that tell ranks and places apart; their sums are exact in every type."""
    return ((torch.arange(torch.Size(shape).numel()) * 7 + rank * 3) % 11 - 5).reshape(shape).to(dtype)


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    assert torch.equal(one, other), (one, other)


def reductions(rank: int, world: int) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        blocks = torch.stack([block(r, 5, 3, dtype=dtype) for r in range(world)])
        for op, expected in (("SUM", blocks.sum(0)), ("MAX", blocks.amax(0)), ("MIN", blocks.amin(0))):
            mine = blocks[rank].clone()
            dist.all_reduce(mine, getattr(dist.ReduceOp, op))
            same(mine, expected)
        for root in range(world):
            mine = blocks[rank].clone()
            dist.reduce(mine, root)
            same(mine, blocks.sum(0) if rank == root else blocks[rank])
        mine = blocks[rank].clone()
        dist.all_reduce(mine, dist.ReduceOp.AVG)
        same(mine, (blocks.float().sum(0) / world).to(dtype))
        long = [block(r, world, 4, dtype=dtype) for r in range(world)]
        share = torch.empty(4, dtype=dtype)
        dist.reduce_scatter_tensor(share, long[rank])
        same(share, torch.stack(long).sum(0)[rank])
        dist.reduce_scatter(share.zero_(), list(long[rank]))
        same(share, torch.stack(long).sum(0)[rank])

    counts = torch.stack([block(r, 7, dtype=torch.int64) for r in range(world)])
    for op, expected in (("SUM", counts.sum(0)), ("PRODUCT", counts.prod(0)), ("MAX", counts.amax(0))):
        mine = counts[rank].clone()
        dist.all_reduce(mine, getattr(dist.ReduceOp, op))
        same(mine, expected)


def gathers(rank: int, world: int) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64):
        blocks = [block(r, 2, 3, dtype=dtype) for r in range(world)]
        into = [torch.empty(2, 3, dtype=dtype) for _ in range(world)]
        dist.all_gather(into, blocks[rank])
        same(torch.stack(into), torch.stack(blocks))
        if dtype != torch.complex64:
            whole = torch.empty(world * 2, 3, dtype=dtype)
            dist.all_gather_into_tensor(whole, blocks[rank])
            same(whole, torch.cat(blocks))
        for root in range(world):
            into = [torch.empty(2, 3, dtype=dtype) for _ in range(world)] if rank == root else None
            if dtype != torch.complex64:
                dist.gather(blocks[rank], into, dst=root)
                assert into is None or torch.equal(torch.stack(into), torch.stack(blocks))
            moved = blocks[rank].clone()
            dist.broadcast(moved, root)
            same(moved, blocks[root])


def scatters(rank: int, world: int) -> None:
    for dtype in (torch.bfloat16, torch.int64, torch.complex64):
        for root in range(world):
            into = torch.empty(2, 3, dtype=dtype)
            blocks = [block(r + 10 * root, 2, 3, dtype=dtype) for r in range(world)]
            dist.scatter(into, blocks if rank == root else None, src=root)
            same(into, blocks[rank])
        sent = [block(rank * world + r, 4, dtype=dtype) for r in range(world)]
        into = [torch.empty(4, dtype=dtype) for _ in range(world)]
        dist.all_to_all(into, sent)
        same(torch.stack(into), torch.stack([block(r * world + rank, 4, dtype=dtype) for r in range(world)]))
        whole = torch.empty(4 * world, dtype=dtype)
        dist.all_to_all_single(whole, torch.cat(sent))
        same(whole, torch.cat(into))
    # Rank a sends a + b + 1 rows to rank b.
    sizes = [rank + r + 1 for r in range(world)]
    rows = torch.cat([block(rank * world + r, rank + r + 1, 2) for r in range(world)])
    into = torch.empty_like(rows)
    dist.all_to_all_single(into, rows, sizes, sizes)
    same(into, torch.cat([block(r * world + rank, rank + r + 1, 2) for r in range(world)]))
    # Only rank 0 has something for the others, a row for rank 1, two for rank 2.
    sent = torch.ones(sum(range(world)), 2) if rank == 0 else torch.empty(0, 2)
    into = torch.zeros(rank, 2)
    nothing = [0] * world
    dist.all_to_all_single(into, sent, [rank, *nothing[1:]], list(range(world)) if rank == 0 else nothing)
    same(into, torch.ones(rank, 2))


def odd_tensors(rank: int, world: int) -> None:
    """Views that are not contiguous, and tensors without elements."""
    wide = torch.stack([block(rank, 4), torch.zeros(4)], dim=1)
    dist.all_reduce(wide[:, 0])
    same(wide[:, 0], sum(block(r, 4) for r in range(world)))
    same(wide[:, 1], torch.zeros(4))
    into = torch.zeros(4, world)
    dist.all_gather(list(into.unbind(1)), block(rank, 4))
    same(into, torch.stack([block(r, 4) for r in range(world)], 1))
    column = torch.zeros(3, 2)[:, 1]
    column.copy_(block(rank, 3))
    dist.broadcast(column, 1)
    same(column, block(1, 3))
    dist.all_reduce(torch.empty(0))
    dist.all_gather_into_tensor(torch.empty(0), torch.empty(0))
    parameter = torch.nn.Parameter(torch.full((2,), float(rank)))
    dist.broadcast(parameter, 1)
    same(parameter.detach(), torch.ones(2))


def asynchronous(rank: int, world: int) -> None:
    """Many under way at once keep their order, and mix with those that are waited for."""
    tensors = [block(rank, 100 * (n + 1)) for n in range(20)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    last = torch.ones(3)
    dist.all_reduce(last)
    assert works[0].is_completed() and works[-1].is_completed(), "a later operation ends after earlier ones"
    for n, (tensor, work) in enumerate(zip(tensors, works, strict=True)):
        assert work.wait() and work.is_success() and work.exception() is None
        assert work.result()[0] is tensor and work.get_future().wait()[0] is tensor
        same(tensor, sum(block(r, 100 * (n + 1)) for r in range(world)))
    same(last, torch.full((3,), float(world)))
    future = dist.all_reduce(mine := block(rank, 4), async_op=True).get_future().then(lambda done: done.value()[0] * 2)
    same(future.wait(), 2 * sum(block(r, 4) for r in range(world)))
    same(mine * 2, future.wait())
    dist.barrier(async_op=True).wait()
    dist.barrier()


def coalesced(rank: int, world: int) -> None:
    from torch.distributed.distributed_c10d import _coalescing_manager

    tensors = [block(rank, 3), block(rank, 2, 2, dtype=torch.bfloat16), block(rank, 5)]
    with _coalescing_manager(async_ops=True) as manager:
        for tensor in tensors:
            dist.all_reduce(tensor)
    manager.wait()
    same(tensors[0], sum(block(r, 3) for r in range(world)))
    same(tensors[1], sum(block(r, 2, 2, dtype=torch.bfloat16) for r in range(world)))
    same(tensors[2], sum(block(r, 5) for r in range(world)))
    into = [torch.empty(world * 3), torch.empty(world * 2)]
    with _coalescing_manager(device=torch.device("cpu"), async_ops=True) as manager:
        dist.all_gather_into_tensor(into[0], block(rank, 3))
        dist.all_gather_into_tensor(into[1], block(rank, 2))
    manager.wait()
    same(into[0], torch.cat([block(r, 3) for r in range(world)]))
    same(into[1], torch.cat([block(r, 2) for r in range(world)]))


def objects(rank: int, world: int) -> None:
    everybody = [None] * world
    dist.all_gather_object(everybody, {"rank": rank, "text": "x" * rank})
    assert everybody == [{"rank": r, "text": "x" * r} for r in range(world)]
    told = ["a", {"b": 1}] if rank == 1 else [None, None]
    dist.broadcast_object_list(told, src=1)
    assert told == ["a", {"b": 1}]
    mine = [None]
    dist.scatter_object_list(mine, [{"for": r} for r in range(world)] if rank == 1 else None, src=1)
    assert mine == [{"for": rank}]
    gathered = [None] * world if rank == 0 else None
    dist.gather_object((rank,), gathered, dst=0)
    assert gathered == ([(r,) for r in range(world)] if rank == 0 else None)


def subgroups(rank: int, world: int) -> None:
    """Groups that overlap, at once, and ranks that are in none; a group's ranks are not the world's."""
    pairs = [dist.new_group([r, (r + 1) % world], sort_ranks=False) for r in range(world)]
    works = []
    for first, group in enumerate(pairs):
        if dist.get_rank(group) >= 0:
            tensor = torch.full((4,), 10.0**rank)
            works.append((first, tensor, dist.all_reduce(tensor, group=group, async_op=True)))
    for first, tensor, work in works:
        work.wait()
        same(tensor, torch.full((4,), 10.0**first + 10.0 ** ((first + 1) % world)))
    mine = torch.tensor([float(rank)])
    if dist.get_rank(pairs[1]) >= 0:
        dist.broadcast(mine, src=2, group=pairs[1])
        assert mine.item() == 2
        dist.destroy_process_group(pairs[1])
    dist.barrier()


def messages(rank: int, world: int) -> None:
    """Large ones both ways at once, tags out of order, and ranks that take no part."""
    to, from_ = (rank + 1) % world, (rank - 1) % world
    large = torch.full((1 << 20,), rank)
    into = torch.empty_like(large)
    operations = [dist.P2POp(dist.isend, large, to), dist.P2POp(dist.irecv, into, from_)]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    same(into, torch.full((1 << 20,), from_))
    if rank == 0:
        sent = [dist.isend(torch.full((n,), float(n)), 1, tag=n) for n in range(1, 5)]
        for work in sent:
            work.wait()
    elif rank == 1:
        for tag in (3, 1, 4, 2):
            into = torch.empty(tag)
            assert dist.recv(into, 0, tag=tag) == 0
            same(into, torch.full((tag,), float(tag)))
    if rank == 0:
        dist.send(block(0, 4, 2).t(), 1)
        dist.send_object_list([{"an": "object"}], dst=1)
    elif rank == 1:
        into = torch.empty(4, 2).t()
        dist.recv(into, 0)
        same(into, block(0, 4, 2).t())
        dist.recv_object_list(told := [None], src=0)
        assert told == [{"an": "object"}]


def functional(rank: int, world: int) -> None:
    """The collectives that torch.compile, DTensor and FSDP use."""
    import torch.distributed._functional_collectives as funcol

    group = dist.group.WORLD
    blocks = torch.stack([block(r, world, 2) for r in range(world)])
    same(funcol.all_reduce(blocks[rank], "sum", group) + 0, blocks.sum(0))
    same(funcol.all_gather_tensor(blocks[rank], 0, group) + 0, blocks.flatten(0, 1))
    same(funcol.reduce_scatter_tensor(blocks[rank], "sum", 0, group) + 0, blocks.sum(0)[rank : rank + 1])
    rows = [1] * world
    same(funcol.all_to_all_single(blocks[rank], rows, rows, group) + 0, blocks[:, rank])
    same(funcol.broadcast(blocks[rank], 1, group) + 0, blocks[1])
    step = torch.compile(lambda x: funcol.all_reduce(x * 2, "sum", group) + 1, backend="aot_eager", fullgraph=True)
    same(step(blocks[rank]), 2 * blocks.sum(0) + 1)
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (world,))
    same(funcol.all_reduce(blocks[rank], "sum", mesh) + 0, blocks.sum(0))


STEPS = [reductions, gathers, scatters, odd_tensors, asynchronous, coalesced, objects, subgroups, messages, functional]


def every_step(rank: int, world: int) -> list[str]:
    done = []
    for step in STEPS:
        step(rank, world)
        done.append(step.__name__)
    return done


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_every_operation_does_what_torch_documents(torch_values, transport, monkeypatch):
    monkeypatch.setenv("HALO_TRANSPORT", transport)
    assert torch_values(every_step, world=3) == [[step.__name__ for step in STEPS]] * 3


def counted(rank: int, world: int):
    from halo.torch import statistics

    unused = dist.new_group(list(range(world)))
    alone = [dist.new_group([r]) for r in range(world)][rank]
    before = statistics(), statistics(unused), statistics(alone), len(os.listdir("/proc/self/task"))
    dist.all_reduce(torch.ones(8))
    dist.broadcast(torch.ones(8), 0)
    (entry,) = statistics()
    dist.all_reduce(mine := torch.ones(2), group=alone)
    threads = {name for name in thread_names() if name.startswith("halo")}
    operations = {operation["operation"]: operation["count"] for operation in entry["operations"]}
    return before[:3], entry["name"], operations, mine.tolist(), statistics(unused), sorted(threads)


def thread_names() -> list[str]:
    import threading

    return [thread.name for thread in threading.enumerate()]


def test_groups_connect_when_they_are_needed_and_count_what_they_do(torch_values):
    expected = ([], [], []), "torch:0", {"all_reduce": 1, "broadcast": 1}, [1.0, 1.0], [], []
    assert torch_values(counted) == [expected] * 2


def made_again(rank: int, world: int) -> list[float]:
    sums = []
    store = dist.FileStore(os.environ["AGAIN"], world)
    for _ in range(3):
        dist.destroy_process_group()
        dist.init_process_group("halo", store=store, rank=rank, world_size=world)
        dist.all_reduce(tensor := torch.ones(1))
        sums.append(tensor.item())
        dist.barrier()
    return sums


def test_a_world_can_be_made_again_in_the_same_store(torch_values, tmp_path, monkeypatch):
    monkeypatch.setenv("AGAIN", str(tmp_path / "again"))
    assert torch_values(made_again) == [[2.0] * 3] * 2


def beside_gloo(rank: int, world: int):
    ours = dist.new_group(backend="halo", pg_options={"transport": "tcp", "name": "ours"})
    dist.all_reduce(one := torch.ones(2))
    dist.all_reduce(two := torch.ones(2), group=ours)
    from halo.torch import statistics

    with pytest.raises(halo.UsageError, match="HALO-E0561"):
        statistics()
    (entry,) = statistics(ours)
    return one.tolist(), two.tolist(), entry["name"], [link["transport"] for link in entry["links"]]


def test_a_group_of_ours_stands_beside_other_backends_and_takes_settings(torch_values):
    assert torch_values(beside_gloo, backend="gloo") == [([2.0, 2.0], [2.0, 2.0], "ours", ["tcp"])] * 2


def trained(rank: int, world: int) -> tuple[list[list[float]], list[list[float]]]:
    torch.manual_seed(rank)  # parallel training must bring rank 0's start to all
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 4))
    parallel = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.001)
    optimiser = torch.optim.SGD(parallel.parameters(), lr=0.1)
    torch.manual_seed(100 + rank)
    for _ in range(3):
        optimiser.zero_grad()
        parallel(torch.randn(8, 16)).square().mean().backward()
        optimiser.step()
    gradients = [parameter.grad.flatten().tolist() for parameter in model.parameters()]
    return gradients, [value.flatten().tolist() for value in model.state_dict().values()]


def test_parallel_training_gives_the_gradients_that_gloo_gives(torch_values):
    ours, glooed = (torch_values(trained, backend=backend) for backend in ("halo", "gloo"))
    assert ours == glooed
    assert ours[0][0] == ours[1][0] and any(any(gradient) for gradient in ours[0][0])


def test_importing_torch_is_enough() -> None:
    code = "import torch, torch.distributed as d; print(d.is_backend_available('halo'))"
    first = "import halo.torch; "
    for autoload, extra, expected in (
        ("1", "", "True"),
        ("1", first, "True"),
        ("0", "", "False"),
        ("0", first, "True"),
    ):
        environment = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": autoload}
        done = subprocess.run([sys.executable, "-c", extra + code], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected, (autoload, extra, done.stderr)


def test_data_takes_the_network_that_the_store_is_on() -> None:
    from halo.torch.address import address_towards

    # Whatever address this machine has: a store that listens there is reached from there.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    there = dist.TCPStore(own, 0, 1, is_master=True, wait_for_workers=False)
    here = dist.TCPStore("127.0.0.1", 0, 1, is_master=True, wait_for_workers=False)
    assert address_towards(dist.PrefixStore("a", dist.PrefixStore("b", there))) == own
    assert address_towards(here) is None and address_towards(dist.HashStore()) is None


def test_no_device_gets_halo_unasked() -> None:
    assert "halo" not in dist.Backend.default_device_backend_map.values()
