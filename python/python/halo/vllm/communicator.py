"""The communicator that vLLM's groups use: every collective goes through `halo.Communicator`."""

from __future__ import annotations

import collections
import os
from typing import Any

import torch
import torch.distributed
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import _get_default_store
from vllm.distributed.device_communicators.base_device_communicator import All2AllManagerBase, DeviceCommunicatorBase
from vllm.logger import init_logger
from vllm.utils.network_utils import get_ip

from halo.communicator import Communicator
from halo.errors import UsageError

# Under vLLM's own name: its logging shows nothing of other loggers.
logger = init_logger("vllm.halo")

# How often each group has been made in this process: a group made again must not read its predecessor's greetings.
_generations: collections.Counter[str] = collections.Counter()


class HaloCommunicator(DeviceCommunicatorBase):
    """One group of ranks. A group of one needs no communicator and gets none.

    Every method returns a new tensor and leaves its argument alone: vLLM calls them from custom operators, which may
    not return what they were given.
    """

    # Tensor dictionaries (pipeline parallelism) travel by torch.distributed, as in vLLM's base class.
    supports_tensor_dict = False

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
        self.halo: Communicator | None = self._meet() if self.world_size > 1 else None
        if self.use_all2all:
            self.all2all_manager = self._all2all()

    def _meet(self) -> Communicator:
        name = self.unique_name or "group"
        # Groups of one kind share their name (two tensor-parallel groups under data parallelism); their ranks differ.
        identity = f"{name}/{'-'.join(map(str, self.ranks))}"
        _generations[identity] += 1
        store = torch.distributed.PrefixStore(f"halo/{identity}/{_generations[identity]}", _get_default_store())
        communicator = Communicator.from_store(
            store, self.rank_in_group, self.world_size, name=name, address=_data_address()
        )
        for link in communicator.links:
            logger.info(
                "halo: group %s rank %d reaches rank %d on %s by %s (%s)",
                name,
                self.rank_in_group,
                link.peer,
                link.host,
                link.transport,
                link.reason,
            )
        return communicator

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
        if self.halo is None:
            return input_
        source = _on_host(input_)
        return self._on_device(self.halo.all_reduce(source, out=torch.empty_like(source)))

    def all_gather(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        if self.halo is None:
            return input_
        source = _on_host(input_)
        blocks = self.halo.all_gather(source, out=source.new_empty((self.world_size, *source.shape)))
        return self._on_device(_side_by_side(blocks, dim))

    def all_gatherv(
        self, input_: torch.Tensor | list[torch.Tensor], dim: int = 0, sizes: list[int] | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """Ranks may have different lengths along ``dim``: ``sizes``. They travel padded to the longest."""
        if isinstance(input_, list):
            return [self.all_gatherv(tensor, dim, sizes) for tensor in input_]
        if self.halo is None or sizes is None or len(set(sizes)) == 1:
            return self.all_gather(input_, dim)
        source = input_.movedim(dim, 0)
        padded = source.new_zeros((max(sizes), *source.shape[1:]))
        padded[: source.shape[0]] = source
        blocks = self.all_gather(padded, 0).split(max(sizes))
        return torch.cat([block[:size] for block, size in zip(blocks, sizes, strict=True)]).movedim(0, dim)

    def gather(self, input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
        if self.halo is None:
            return input_
        source = _on_host(input_)
        if self.rank_in_group != dst:
            self.halo.gather(source, root=dst)
            return None
        blocks = self.halo.gather(source, out=source.new_empty((self.world_size, *source.shape)), root=dst)
        return self._on_device(_side_by_side(blocks, dim))

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
        if self.halo is None:
            return input_
        if sizes is None:
            return self.reduce_scatter(input_, dim)
        source = _on_host(input_.movedim(dim, 0))
        longest = max(sizes)
        if len(set(sizes)) > 1:
            padded = source.new_zeros((self.world_size, longest, *source.shape[1:]))
            for rank, block in enumerate(source.split(sizes)):
                padded[rank, : sizes[rank]] = block
            source = padded
        block = self.halo.reduce_scatter(source, out=source.new_empty((longest, *input_.movedim(dim, 0).shape[1:])))
        return self._on_device(block[: sizes[self.rank_in_group]].movedim(0, dim).contiguous())

    def broadcast(self, tensor: torch.Tensor, src: int = 0) -> torch.Tensor:
        """In place, as vLLM's own."""
        if self.halo is None:
            return tensor
        staged = _on_host(tensor)
        self.halo.broadcast(staged, root=src)
        if self.rank_in_group != src and staged.data_ptr() != tensor.data_ptr():
            tensor.copy_(staged)
        return tensor

    def send(self, tensor: torch.Tensor, dst: int | None = None) -> None:
        if self.halo is not None:
            self.halo.send(_on_host(tensor), (self.rank_in_group + 1) % self.world_size if dst is None else dst)

    def recv(self, size: torch.Size, dtype: torch.dtype, src: int | None = None) -> torch.Tensor:
        tensor = torch.empty(size, dtype=dtype, device="cpu")
        if self.halo is not None:
            self.halo.recv(tensor, (self.rank_in_group - 1) % self.world_size if src is None else src)
        return self._on_device(tensor)

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

    def destroy(self) -> None:
        if self.halo is not None:
            self.halo.close()
            self.halo = None

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


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself where halo can use it, else a contiguous copy in host memory."""
    return tensor.detach().to("cpu").contiguous()


def _side_by_side(blocks: torch.Tensor, dim: int) -> torch.Tensor:
    """The ranks' blocks, stacked in a new first dimension, joined along ``dim``; no copy where ``dim`` is the first."""
    shape = list(blocks.shape[1:])
    dim %= len(shape)
    shape[dim] *= blocks.shape[0]
    return blocks.movedim(0, dim).reshape(shape)
