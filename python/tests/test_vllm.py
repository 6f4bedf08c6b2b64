"""The vLLM plugin under the real vLLM: its platform, and its groups of ranks over halo."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import pathlib
import subprocess
import sys
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from halo import UsageError

pytest.importorskip("vllm", reason="vLLM is not installed: `make setup` installs it")

WORLD = 2
# vLLM takes its time to import, twice at once on two cores.
WAIT_SECONDS = 300


def group(ranks: list[list[int]], name: str) -> Any:
    """A group of ranks as vLLM makes them for tensor parallelism."""
    from vllm.distributed.parallel_state import GroupCoordinator
    from vllm.platforms import current_platform

    return GroupCoordinator(ranks, 0, current_platform.dist_backend, use_device_communicator=True, group_name=name)


def block(rank: int, *shape: int) -> torch.Tensor:
    """Small whole numbers that tell ranks and places apart; their sums are exact in every type."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) + 100 * rank


# What every rank does, in this order. Each returns what the assertions below need.


def all_reduce(tp: Any, rank: int) -> Any:
    mine = block(rank, 3, 4).to(torch.bfloat16)
    kept = mine.clone()
    return tp.all_reduce(mine), torch.equal(mine, kept)


def all_reduce_of_a_view(tp: Any, rank: int) -> Any:
    return tp.all_reduce(block(rank, 4, 3).t())


def all_reduce_of_nothing(tp: Any, rank: int) -> Any:
    return tp.all_reduce(torch.empty(0, 256))


def all_reduce_of_integers(tp: Any, rank: int) -> Any:
    return tp.device_communicator.all_reduce(torch.full((4,), rank + 1, dtype=torch.int32))


def all_gather(tp: Any, rank: int) -> Any:
    return {dim: tp.all_gather(block(rank, 2, 3), dim) for dim in (0, 1, -1)}


def all_gather_of_integers(tp: Any, rank: int) -> Any:
    return tp.all_gather(torch.tensor([[rank, 1 << 40]]), 0)


def all_gatherv(tp: Any, rank: int) -> Any:
    sizes = [3, 1]
    tensors = [block(rank, sizes[rank], 2), block(rank, sizes[rank], 5)]
    return tp.all_gatherv(tensors, dim=0, sizes=sizes)


def gather(tp: Any, rank: int) -> Any:
    return tp.gather(block(rank, 2, 3), dst=1)


def reduce_scatter(tp: Any, rank: int) -> Any:
    return {dim: tp.reduce_scatter(block(rank, 4, 6), dim) for dim in (0, 1)}


def reduce_scatter_that_does_not_divide(tp: Any, rank: int) -> Any:
    with pytest.raises(UsageError) as caught:
        tp.device_communicator.reduce_scatter(block(rank, 3, 2), 0)
    return caught.value.code


def reduce_scatterv(tp: Any, rank: int) -> Any:
    return tp.reduce_scatterv(block(rank, 4, 2), dim=0, sizes=[3, 1])


def broadcast(tp: Any, rank: int) -> Any:
    return tp.device_communicator.broadcast(block(rank, 3, 3).t(), src=1)


def broadcast_of_the_group_itself(tp: Any, rank: int) -> Any:
    return tp.broadcast(block(rank, 2, 2), src=1)


def broadcast_of_objects(tp: Any, rank: int) -> Any:
    return tp.broadcast_object_list([{"rank": rank}], src=1)


def send_and_receive(tp: Any, rank: int) -> Any:
    if rank == 0:
        tp.send(block(0, 5), 1)
        return None
    return tp.recv(torch.Size([5]), torch.float32, 0)


def tensor_dictionaries(tp: Any, rank: int) -> Any:
    if rank == 1:
        return tp.recv_tensor_dict(src=0)
    tp.send_tensor_dict({"hidden": block(0, 2, 3), "step": 7, "none": torch.empty(0, 4)}, dst=1)
    return None


def other_all_to_all(tp: Any, rank: int) -> Any:
    tp.device_communicator.all2all_backend = "deepep_low_latency"
    with pytest.raises(UsageError) as caught:
        tp.device_communicator._all2all()
    return caught.value.code


def group_of_one(tp: Any, rank: int) -> Any:
    alone = group([[0], [1]], "alone")
    mine = block(rank, 2)
    return alone.device_communicator, torch.equal(alone.all_reduce(mine), mine)


def group_made_again(tp: Any, rank: int) -> Any:
    made = []
    for _ in range(2):
        again = group([[0, 1]], "again")
        made.append(again.all_reduce(block(rank, 2)))
        again.destroy()
    return made


def group_of_another_backend(tp: Any, rank: int) -> Any:
    from halo.vllm.communicator import HaloCommunicator

    with pytest.raises(UsageError) as caught:
        HaloCommunicator(tp.cpu_group, device_group=tp.cpu_group, unique_name="other")
    return caught.value.code


def elastic_group(tp: Any, rank: int) -> Any:
    from halo.vllm.communicator import HaloCommunicator

    with pytest.raises(UsageError) as caught:
        HaloCommunicator(tp.cpu_group, unique_name="ep:0", global_ranks=[0, 1], global_world_size=2)
    return caught.value.code


def compiled(tp: Any, rank: int) -> Any:
    # The collective must be one node of the graph, not a break in it.
    step = torch.compile(lambda tensor: tp.all_reduce(tensor * 2) + 1, fullgraph=True, backend="aot_eager")
    return step(block(rank, 2, 2))


def counted(tp: Any, rank: int) -> Any:
    from halo.torch import statistics

    return {
        entry["name"]: {operation["operation"]: operation["count"] for operation in entry["operations"]}
        for entry in statistics(tp.device_group)
    }


STEPS: tuple[Callable[[Any, int], Any], ...] = (
    all_reduce,
    all_reduce_of_a_view,
    all_reduce_of_nothing,
    all_reduce_of_integers,
    all_gather,
    all_gather_of_integers,
    all_gatherv,
    gather,
    reduce_scatter,
    reduce_scatter_that_does_not_divide,
    reduce_scatterv,
    broadcast,
    broadcast_of_the_group_itself,
    broadcast_of_objects,
    tensor_dictionaries,
    send_and_receive,
    other_all_to_all,
    group_of_one,
    group_made_again,
    elastic_group,
    group_of_another_backend,
    compiled,
    counted,
)


def _rank(rank: int, folder: pathlib.Path) -> None:
    try:
        torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
        from vllm.platforms import current_platform

        tp = group([[0, 1]], "tp")
        results: Any = {"platform": type(current_platform).__qualname__}
        for step in STEPS:
            results[step.__name__] = step(tp, rank)
        tp.destroy()
    except BaseException:
        results = traceback.format_exc()
    torch.save(results, folder / f"results.{rank}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank's steps returned. All run in one pair of processes: importing vLLM is what takes long."""
    context = multiprocessing.get_context("spawn")
    folder = tmp_path_factory.mktemp("ranks")
    processes = [context.Process(target=_rank, args=(rank, folder)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(WAIT_SECONDS)
        process.kill()
    answers = []
    for rank in range(WORLD):
        file = folder / f"results.{rank}"
        assert file.exists(), f"rank {rank} hung or died"
        answers.append(torch.load(file, weights_only=False))
    for answer in answers:
        assert isinstance(answer, dict), answer
    return answers


def everywhere(results: list[dict[str, Any]], step: Callable[..., Any]) -> list[Any]:
    return [result[step.__name__] for result in results]


BLOCKS = [block(rank, 2, 3) for rank in range(WORLD)]


def test_vllm_chooses_halos_platform(results: list[dict[str, Any]]) -> None:
    assert [result["platform"] for result in results] == ["HaloCpuPlatform"] * WORLD


def test_all_reduce(results: list[dict[str, Any]]) -> None:
    for reduced, argument_untouched in everywhere(results, all_reduce):
        assert torch.equal(reduced, (block(0, 3, 4) + block(1, 3, 4)).to(torch.bfloat16))
        assert argument_untouched
    for reduced in everywhere(results, all_reduce_of_a_view):
        assert torch.equal(reduced, (block(0, 4, 3) + block(1, 4, 3)).t())
    assert [reduced.shape for reduced in everywhere(results, all_reduce_of_nothing)] == [(0, 256)] * WORLD
    assert [reduced.tolist() for reduced in everywhere(results, all_reduce_of_integers)] == [[3] * 4] * WORLD


def test_all_gather(results: list[dict[str, Any]]) -> None:
    for gathered in everywhere(results, all_gather):
        for dim, joined in gathered.items():
            assert torch.equal(joined, torch.cat(BLOCKS, dim)), dim
    for gathered in everywhere(results, all_gather_of_integers):
        assert gathered.tolist() == [[0, 1 << 40], [1, 1 << 40]]
    for narrow, wide in everywhere(results, all_gatherv):
        assert torch.equal(narrow, torch.cat([block(0, 3, 2), block(1, 1, 2)]))
        assert torch.equal(wide, torch.cat([block(0, 3, 5), block(1, 1, 5)]))


def test_gather(results: list[dict[str, Any]]) -> None:
    other, root = everywhere(results, gather)
    assert other is None
    assert torch.equal(root, torch.cat(BLOCKS, -1))


def test_reduce_scatter(results: list[dict[str, Any]]) -> None:
    total = block(0, 4, 6) + block(1, 4, 6)
    for rank, shares in enumerate(everywhere(results, reduce_scatter)):
        for dim, share in shares.items():
            assert torch.equal(share, total.chunk(WORLD, dim)[rank]), (rank, dim)
    unequal = (block(0, 4, 2) + block(1, 4, 2)).split([3, 1])
    for rank, share in enumerate(everywhere(results, reduce_scatterv)):
        assert torch.equal(share, unequal[rank])
    assert everywhere(results, reduce_scatter_that_does_not_divide) == ["HALO-E0557"] * WORLD


def test_broadcast_send_and_receive(results: list[dict[str, Any]]) -> None:
    for received in everywhere(results, broadcast):
        assert torch.equal(received, block(1, 3, 3).t())
    for received in everywhere(results, broadcast_of_the_group_itself):
        assert torch.equal(received, block(1, 2, 2))
    assert everywhere(results, broadcast_of_objects) == [[{"rank": 1}]] * WORLD
    assert torch.equal(everywhere(results, send_and_receive)[1], block(0, 5))


def test_tensor_dictionaries(results: list[dict[str, Any]]) -> None:
    _, received = everywhere(results, tensor_dictionaries)
    assert torch.equal(received["hidden"], block(0, 2, 3))
    assert received["step"] == 7 and received["none"].shape == (0, 4)


def test_collectives_are_one_node_of_a_compiled_graph(results: list[dict[str, Any]]) -> None:
    for reduced in everywhere(results, compiled):
        assert torch.equal(reduced, 2 * (block(0, 2, 2) + block(1, 2, 2)) + 1)


def test_groups_of_one_and_groups_made_again(results: list[dict[str, Any]]) -> None:
    assert everywhere(results, group_of_one) == [(None, True)] * WORLD
    for made in everywhere(results, group_made_again):
        assert all(torch.equal(reduced, block(0, 2) + block(1, 2)) for reduced in made)
        assert len(made) == 2


def test_what_is_not_supported_is_refused(results: list[dict[str, Any]]) -> None:
    assert everywhere(results, other_all_to_all) == ["HALO-E0556"] * WORLD
    assert everywhere(results, elastic_group) == ["HALO-E0555"] * WORLD
    assert everywhere(results, group_of_another_backend) == ["HALO-E0561"] * WORLD


def test_every_collective_is_counted_under_the_groups_name(results: list[dict[str, Any]]) -> None:
    collectives = {"all_reduce": 5, "all_gather": 6, "gather": 1, "reduce_scatter": 3, "broadcast": 4}
    # A message is its header and its tensor; the dictionary's description is two messages, its tensors two more.
    messages = {"send/recv": 2 * 5}
    assert everywhere(results, counted) == [{"tp:0": collectives, "tp:0:0-1": messages}] * WORLD


def test_the_package_declares_both_plugins() -> None:
    for kind, function in (("platform_plugins", "platform"), ("general_plugins", "register")):
        (declared,) = importlib.metadata.entry_points(group=f"vllm.{kind}", name="halo")
        assert declared.value == f"halo.vllm:{function}"


def test_a_platform_chosen_without_asking_is_refused() -> None:
    code = "from vllm.plugins import load_general_plugins; load_general_plugins()"
    environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "HALO-E0553" in done.stderr and "VLLM_TARGET_DEVICE" in done.stderr


@pytest.mark.parametrize(("ranks", "mode", "refused"), [(1, "PIECEWISE", False), (2, "NONE", False), (2, "FULL", True)])
def test_gpu_graphs_of_several_ranks_are_refused(ranks: int, mode: str, refused: bool) -> None:
    from halo.vllm.graphs import refuse_graphs
    from vllm.config import CUDAGraphMode

    config: Any = SimpleNamespace(
        parallel_config=SimpleNamespace(world_size=ranks),
        compilation_config=SimpleNamespace(cudagraph_mode=CUDAGraphMode[mode]),
    )
    if refused:
        with pytest.raises(UsageError, match="HALO-E0554"):
            refuse_graphs(config)
    else:
        assert refuse_graphs(config) is None
