"""The communicator that vLLM's groups use: every collective goes through `halo.Communicator`."""

from __future__ import annotations

import collections

import torch
import torch.distributed
from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import _get_default_store
from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase
from vllm.logger import init_logger

from halo.communicator import Communicator

logger = init_logger(__name__)

# How often each group has been made in this process: a group made again must not read its predecessor's greetings.
_generations: collections.Counter[str] = collections.Counter()


class HaloCommunicator(DeviceCommunicatorBase):
    """One group of ranks. A group of one needs no communicator and gets none."""

    def __init__(
        self,
        cpu_group: ProcessGroup,
        device: torch.device | None = None,
        device_group: ProcessGroup | None = None,
        unique_name: str = "",
        use_all2all: bool = False,
        **settings: object,
    ) -> None:
        super().__init__(cpu_group, device, device_group, unique_name, use_all2all=use_all2all, **settings)
        # Tensor dictionaries (pipeline parallelism) travel by torch.distributed, as in vLLM's base class.
        self.supports_tensor_dict = False
        self.halo: Communicator | None = None
        if self.world_size > 1:
            self.halo = self._meet()
        if self.use_all2all:
            from vllm.distributed.device_communicators.all2all import AgRsAll2AllManager

            self.all2all_manager = AgRsAll2AllManager(self.cpu_group)

    def _meet(self) -> Communicator:
        name = self.unique_name or "group"
        # Groups of one kind share their name (two tensor-parallel groups under data parallelism); their ranks differ.
        identity = f"{name}/{'-'.join(map(str, self.ranks))}"
        _generations[identity] += 1
        store = torch.distributed.PrefixStore(f"halo/{identity}/{_generations[identity]}", _get_default_store())
        communicator = Communicator.from_store(store, self.rank_in_group, self.world_size, name=name)
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

    def all_reduce(self, input_: torch.Tensor) -> torch.Tensor:
        if self.halo is None:
            return input_
        staged = _staged(input_)
        self.halo.all_reduce(staged)
        return _unstaged(staged, input_)

    def all_gather(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        if self.halo is None:
            return input_
        dim = dim % input_.dim()
        staged = _staged(input_)
        gathered = torch.empty((self.world_size, *staged.shape), dtype=staged.dtype)
        self.halo.all_gather(staged, out=gathered)
        return _joined(gathered, dim).to(input_.device)

    def gather(self, input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
        if self.halo is None:
            return input_
        dim = dim % input_.dim()
        staged = _staged(input_)
        if self.rank_in_group != dst:
            self.halo.gather(staged, root=dst)
            return None
        gathered = torch.empty((self.world_size, *staged.shape), dtype=staged.dtype)
        self.halo.gather(staged, out=gathered, root=dst)
        return _joined(gathered, dim).to(input_.device)

    def reduce_scatter(self, input_: torch.Tensor, dim: int = -1) -> torch.Tensor:
        if self.halo is None:
            return input_
        dim = dim % input_.dim()
        staged = _staged(input_.movedim(dim, 0))
        if staged.shape[0] % self.world_size:
            raise ValueError(
                f"reduce_scatter: dimension {dim} of {tuple(input_.shape)} is not divisible by {self.world_size} ranks"
            )
        block = torch.empty((staged.shape[0] // self.world_size, *staged.shape[1:]), dtype=staged.dtype)
        self.halo.reduce_scatter(staged, out=block)
        return block.movedim(0, dim).contiguous().to(input_.device)

    def broadcast(self, tensor: torch.Tensor, src: int = 0) -> torch.Tensor:
        if self.halo is None:
            return tensor
        staged = _staged(tensor)
        self.halo.broadcast(staged, root=src)
        return _unstaged(staged, tensor)

    def send(self, tensor: torch.Tensor, dst: int | None = None) -> None:
        if self.halo is not None:
            self.halo.send(_staged(tensor), (self.rank_in_group + 1) % self.world_size if dst is None else dst)

    def recv(self, size: torch.Size, dtype: torch.dtype, src: int | None = None) -> torch.Tensor:
        staged = torch.empty(size, dtype=dtype)
        if self.halo is not None:
            self.halo.recv(staged, (self.rank_in_group - 1) % self.world_size if src is None else src)
        return staged.to(self.device)

    def destroy(self) -> None:
        if self.halo is not None:
            self.halo.close()
            self.halo = None


def _staged(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself where halo can use it, else a contiguous copy in host memory."""
    return tensor.detach().to("cpu").contiguous()


def _unstaged(staged: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """The result in the caller's tensor, which already holds it unless it was staged."""
    if staged.data_ptr() != tensor.data_ptr() or staged.device != tensor.device:
        tensor.copy_(staged)
    return tensor


def _joined(gathered: torch.Tensor, dim: int) -> torch.Tensor:
    """Blocks of all ranks side by side along ``dim``."""
    shape = list(gathered.shape[1:])
    shape[dim] *= gathered.shape[0]
    return gathered.movedim(0, dim).reshape(shape)
