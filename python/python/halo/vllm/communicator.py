"""The communicator that vLLM's groups use: everything goes through halo's process group."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup
from vllm.distributed.device_communicators.base_device_communicator import All2AllManagerBase, DeviceCommunicatorBase
from vllm.distributed.parallel_state import TensorMetadata, _split_tensor_dict
from vllm.logger import init_logger
from vllm.utils.network_utils import get_ip

from halo.communicator import Communicator
from halo.errors import UsageError
from halo.torch.group import HaloProcessGroup, foreign_group
from halo.torch.tensors import on_host

# Under vLLM's own name: its logging shows nothing of other loggers.
logger = init_logger("vllm.halo")


class HaloCommunicator(DeviceCommunicatorBase):
    """One group of several ranks, over the communicator of its process group: torch.distributed's backend "halo".

    What vLLM calls often goes to `halo.Communicator` directly; the rest (broadcast, send, recv) is the base class's, by
    torch.distributed on the same process group. Methods return a new tensor and leave their argument alone: vLLM calls
    them from custom operators, which may not return what they were given.
    """

    # vLLM's CPU platform then leaves tensor dictionaries (pipeline parallelism) to this class.
    supports_tensor_dict = True

    def __init__(
        self,
        cpu_group: ProcessGroup,
        device: torch.device | None = None,
        device_group: ProcessGroup | None = None,
        unique_name: str = "",
        global_ranks: list[int] | None = None,
        global_world_size: int | None = None,
        use_all2all: bool = False,
    ) -> None:
        if global_ranks is not None:
            raise UsageError(
                "HALO-E0555",
                f"group {unique_name}: a group that grows and shrinks (elastic expert parallelism) is not supported",
                "start vLLM without --enable-elastic-ep",
            )
        super().__init__(cpu_group, device, device_group, unique_name, use_all2all=use_all2all)
        if not isinstance(device_group, HaloProcessGroup):
            raise foreign_group(f"vLLM's group {unique_name}", device_group)
        device_group.configure({"name": unique_name or "group", "address": _data_address()})
        device_group.when_connected = self._tell_links
        self._run = device_group.run
        if self.use_all2all:
            self.all2all_manager = self._all2all()

    def _tell_links(self, communicator: Communicator) -> None:
        for link in communicator.links:
            logger.info(
                "halo: group %s rank %d reaches rank %d on %s by %s (%s)",
                communicator.name,
                communicator.rank,
                link.peer,
                link.host,
                link.transport,
                link.reason,
            )

    def _all2all(self) -> All2AllManagerBase:
        """Expert parallelism by all-gather and reduce-scatter: the one way that needs nothing but collectives."""
        if self.all2all_backend not in ("allgather_reducescatter", "naive", None):
            raise UsageError(
                "HALO-E0556",
                f"group {self.unique_name}: the all-to-all backend {self.all2all_backend} does not go through halo",
                "start vLLM with --all2all-backend allgather_reducescatter",
            )
        from vllm.distributed.device_communicators.all2all import AgRsAll2AllManager

        return AgRsAll2AllManager(self.cpu_group)

    def all_reduce(self, input_: torch.Tensor) -> torch.Tensor:
        source = on_host(input_)
        return self._on_device(self._run(lambda halo: halo.all_reduce(source, out=torch.empty_like(source))))

    def all_gather(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        source = on_host(input_)
        into = source.new_empty((self.world_size, *source.shape))
        return self._on_device(_side_by_side(self._run(lambda halo: halo.all_gather(source, out=into)), dim))

    def all_gatherv(
        self, input_: torch.Tensor | list[torch.Tensor], dim: int = 0, sizes: list[int] | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """Ranks may have different lengths along ``dim``: ``sizes``. They travel padded to the longest."""
        if isinstance(input_, list):
            return [self.all_gatherv(tensor, dim, sizes) for tensor in input_]
        if sizes is None or len(set(sizes)) == 1:
            return self.all_gather(input_, dim)
        source = input_.movedim(dim, 0)
        padded = source.new_zeros((max(sizes), *source.shape[1:]))
        padded[: source.shape[0]] = source
        blocks = self.all_gather(padded, 0).split(max(sizes))
        return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)]).movedim(0, dim)

    def gather(self, input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
        source = on_host(input_)
        if self.rank_in_group != dst:
            self._run(lambda halo: halo.gather(source, root=dst))
            return None
        into = source.new_empty((self.world_size, *source.shape))
        return self._on_device(_side_by_side(self._run(lambda halo: halo.gather(source, out=into, root=dst)), dim))

    def reduce_scatter(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        length = input_.shape[dim]
        if length % self.world_size:
            raise UsageError(
                "HALO-E0557",
                f"reduce_scatter: dimension {dim} of {tuple(input_.shape)} does not divide by {self.world_size} ranks",
                "this is a fault of the model's code: it must pad, or call reduce_scatterv",
            )
        return self.reduce_scatterv(input_, dim, [length // self.world_size] * self.world_size)

    def reduce_scatterv(self, input_: torch.Tensor, dim: int = -1, sizes: list[int] | None = None) -> torch.Tensor:
        """This rank's ``sizes[rank]`` rows along ``dim`` of the sum; without ``sizes``, an equal share."""
        if sizes is None:
            return self.reduce_scatter(input_, dim)
        source = on_host(input_.movedim(dim, 0))
        longest = max(sizes)
        if len(set(sizes)) > 1:
            padded = source.new_zeros((self.world_size, longest, *source.shape[1:]))
            for rank, block in enumerate(source.split(sizes)):
                padded[rank, : sizes[rank]] = block
            source = padded
        into = source.new_empty((longest, *input_.movedim(dim, 0).shape[1:]))
        block = self._run(lambda halo: halo.reduce_scatter(source, out=into))
        return self._on_device(block[: sizes[self.rank_in_group]].movedim(0, dim).contiguous())

    # Pipeline parallelism on CPUs: what a stage hands to the next. `dst` and `src` are ranks in the group.

    def send_tensor_dict(self, tensor_dict: dict[str, torch.Tensor | Any], dst: int) -> None:
        metadata, tensors = _split_tensor_dict(tensor_dict)
        dist.send_object_list([metadata], self.ranks[dst], group=self.device_group)
        works = [dist.isend(tensor, self.ranks[dst], group=self.device_group) for tensor in tensors]
        for work in works:
            work.wait()

    def recv_tensor_dict(self, src: int) -> dict[str, torch.Tensor | Any]:
        told: list[Any] = [None]
        dist.recv_object_list(told, self.ranks[src], group=self.device_group)
        received = {}
        for key, value in told[0]:
            if isinstance(value, TensorMetadata):
                value = torch.empty(value.size, dtype=value.dtype, device=value.device)
                dist.recv(value, self.ranks[src], group=self.device_group)
            received[key] = value
        return received

    # Expert parallelism: the manager calls this class's collectives.

    def dispatch_router_logits(self, *arguments: Any, **named: Any) -> Any:
        return self._manager().dispatch_router_logits(*arguments, **named)

    def dispatch(self, *arguments: Any, **named: Any) -> Any:
        return self._manager().dispatch(*arguments, **named)

    def combine(self, *arguments: Any, **named: Any) -> Any:
        return self._manager().combine(*arguments, **named)

    def _manager(self) -> All2AllManagerBase:
        assert self.all2all_manager is not None, "vLLM asks for expert parallelism of a group made without it"
        return self.all2all_manager

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device)


def _data_address() -> str | None:
    """This node's address as vLLM knows it (``VLLM_HOST_IP``), where halo is not told another one.

    The ranks meet through a store, which does not tell which of a node's addresses its peers can reach.
    """
    if os.environ.get("HALO_ADDRESS") or os.environ.get("HALO_INTERFACE"):
        return None
    address = get_ip()
    # vLLM's word for a machine without a route; what halo then chooses by itself serves one host.
    return None if address == "0.0.0.0" else address


def _side_by_side(blocks: torch.Tensor, dim: int) -> torch.Tensor:
    """The ranks' blocks, stacked in a new first dimension, joined along ``dim``; no copy where ``dim`` is the first."""
    shape = list(blocks.shape[1:])
    dim %= len(shape)
    shape[dim] *= blocks.shape[0]
    return blocks.movedim(0, dim).reshape(shape)
