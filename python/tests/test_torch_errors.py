"""What a user of the torch.distributed backend is told when something goes wrong, and that nothing hangs."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
from datetime import timedelta

import halo
import pytest
import torch
import torch.distributed as dist


def fails(call) -> str:
    """The code of the error that a call, or the wait for it, raises."""
    with pytest.raises(halo.HaloError) as caught:
        call()
    return caught.value.code


def refused(rank: int, world: int) -> dict[str, str]:
    group = dist.group.WORLD
    ones = torch.ones(2)
    with pytest.raises(halo.UsageError) as sparse:
        dist.all_reduce(torch.ones(2).to_sparse())
    codes = {
        "sparse": sparse.value.code,
        "reduction": fails(lambda: dist.all_reduce(ones, dist.ReduceOp.BAND)),
        "any source": fails(lambda: dist.recv(ones)),
        "list too short": fails(lambda: dist.all_gather([ones], ones)),
        "list of other sizes": fails(lambda: dist.all_gather([ones, torch.ones(3)], ones)),
        "output too short": fails(lambda: dist.all_gather_into_tensor(torch.ones(3), ones)),
        "output of another type": fails(lambda: dist.all_gather_into_tensor(torch.ones(4).half(), ones)),
        "input too long": fails(lambda: dist.reduce_scatter_tensor(ones, torch.ones(5))),
        "uneven split": fails(lambda: dist.all_to_all_single(ones, torch.ones(3))),
        "wrong split": fails(lambda: dist.all_to_all_single(ones, ones, [1, 1], [2, 2])),
        "settings": fails(lambda: dist.new_group(pg_options={"transports": "tcp"})),
        "no settings": fails(lambda: dist.new_group(pg_options="tcp")),
        "several tensors": fails(lambda: group.allreduce([ones, ones])),
    }
    dist.all_reduce(ones)
    assert ones.tolist() == [2.0, 2.0], "nothing was sent, the group goes on working"
    codes["too late"] = fails(lambda: group.configure({"transport": "tcp"}))
    return codes


def test_what_cannot_be_done_is_refused_and_harms_nothing(torch_values):
    expected = {
        "sparse": "HALO-E0502",
        "reduction": "HALO-E0560",
        "any source": "HALO-E0560",
        "list too short": "HALO-E0562",
        "list of other sizes": "HALO-E0562",
        "output too short": "HALO-E0562",
        "output of another type": "HALO-E0562",
        "input too long": "HALO-E0562",
        "uneven split": "HALO-E0562",
        "wrong split": "HALO-E0562",
        "settings": "HALO-E0563",
        "no settings": "HALO-E0563",
        "several tensors": "HALO-E0562",
        "too late": "HALO-E0563",
    }
    assert torch_values(refused) == [expected] * 2


def die_on_rank_two(rank: int, world: int):
    dist.barrier()
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    codes = [fails(dist.all_reduce(torch.ones(1 << 20), async_op=True).wait)]
    future = dist.all_reduce(torch.ones(4), async_op=True).get_future()
    with pytest.raises(RuntimeError, match="HALO-E02"):
        future.wait()
    codes.append(fails(lambda: dist.all_reduce(torch.ones(4))))
    dist.destroy_process_group()
    return codes


def test_a_killed_rank_is_an_error_on_all_others_and_stays_one(torch_ranks):
    *others, died = torch_ranks(die_on_rank_two, world=3)
    assert died == ("died", None)
    for kind, codes in others:
        assert kind == "value", codes
        assert len(codes) == 2 and set(codes) <= {"HALO-E0218", "HALO-E0219", "HALO-E0220", "HALO-E0221"}, codes
        assert codes[0] == codes[1]


def die_in_training(rank: int, world: int) -> str:
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
    loss = model(torch.ones(2, 4)).sum()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="HALO-E02"):
        loss.backward()
    return "told"


def test_a_killed_rank_ends_parallel_training_with_the_reason(torch_ranks):
    assert torch_ranks(die_in_training) == [("value", "told"), ("died", None)]


def different_sizes(rank: int, world: int) -> str:
    return fails(lambda: dist.all_reduce(torch.ones(4 * (rank + 1))))


def test_sizes_that_differ_are_a_mismatch(torch_values):
    assert "HALO-E0301" in torch_values(different_sizes)


def different_messages(rank: int, world: int):
    if rank == 0:
        dist.send(torch.ones(4), 1)
        dist.send(torch.ones(4), 1)
        return None
    with pytest.raises(halo.MismatchError) as caught:
        dist.recv(torch.ones(4, dtype=torch.int64), 0)
    dist.recv(into := torch.zeros(4), 0)
    return caught.value.code, caught.value.peer, "4 x float32" in str(caught.value), into.tolist()


def test_a_message_of_another_type_is_named_and_the_next_one_arrives(torch_values):
    assert torch_values(different_messages) == [None, ("HALO-E0566", 0, True, [1.0] * 4)]


def alone_in_a_barrier(rank: int, world: int):
    store = dist.group.WORLD.get_group_store()
    codes = []
    if rank == 0:
        work = dist.all_reduce(mine := torch.ones(1), async_op=True)
        codes.append(fails(lambda: work.wait(timedelta(seconds=0.2))))
        store.set("the other may come", "")
        work.wait()
        assert mine.item() == 2, "the operation went on"
    else:
        store.get("the other may come")
        dist.all_reduce(torch.ones(1))
    group = dist.new_group(timeout=timedelta(seconds=0.5))
    if rank == 0:
        codes.append(fails(lambda: dist.all_reduce(torch.ones(1), group=group)))
    dist.barrier()
    return codes


def test_waits_end_at_their_time_outs(torch_values):
    waited, _ = torch_values(alone_in_a_barrier)
    assert waited[0] == "HALO-E0565"
    assert waited[1].startswith("HALO-E02"), "the other rank never came to connect"


def aborted(rank: int, world: int):
    store = dist.group.WORLD.get_group_store()
    group = dist.new_group()
    dist.all_reduce(torch.ones(1), group=group)
    if rank == 1:
        works = [dist.all_reduce(torch.ones(1), group=group, async_op=True) for _ in range(3)]
        group.abort()
        codes = [fails(work.wait) for work in works]
        store.set("aborted", "")
        return [*codes, fails(lambda: dist.all_reduce(torch.ones(1), group=group))]
    store.get("aborted")
    code = fails(lambda: [dist.all_reduce(torch.ones(1), group=group) for _ in range(2)])
    dist.destroy_process_group(group)
    return code


def test_an_aborted_group_ends_for_all(torch_values):
    left, (first, *queued) = torch_values(aborted)
    assert first in {"HALO-E0312", "HALO-E0564"}, "whether it had begun is a matter of time"
    assert queued == ["HALO-E0564"] * 3
    assert left in {"HALO-E0218", "HALO-E0219", "HALO-E0220", "HALO-E0221"}, left


ENDS = """
import sys, torch, torch.distributed as dist
rank = int(sys.argv[1])
dist.init_process_group("halo", "file://" + sys.argv[2], rank=rank, world_size=2)
dist.all_reduce(torch.ones(4))
dist.barrier()
if rank == 0:
    dist.all_reduce(torch.ones(4), async_op=True)  # nobody else does
print("ends")
"""


def test_a_process_may_end_with_an_operation_under_way(tmp_path: pathlib.Path):
    command = [sys.executable, "-c", ENDS]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"ends\n"), err
