"""PyTorch's collectives of a process group, each as one of `halo.Communicator`'s.

PyTorch calls some by two names, that of old and that of new releases. Results are lists of tensors where PyTorch's own
backends give lists: distributed data parallel reads them from the work's future.
"""

from __future__ import annotations

import collections
from abc import abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch.distributed import ReduceOp

from halo.communicator import Communicator
from halo.errors import UsageError
from halo.torch.lane import Operation
from halo.torch.tensors import alike, give_back, multiple, on_host, one_each, only, place_for, split_counts
from halo.torch.work import HaloWork, JoinedWork

Tensors = Sequence[torch.Tensor]

_REDUCTIONS = {
    ReduceOp.RedOpType.SUM: "sum",
    ReduceOp.RedOpType.PRODUCT: "prod",
    ReduceOp.RedOpType.MIN: "min",
    ReduceOp.RedOpType.MAX: "max",
    ReduceOp.RedOpType.AVG: "avg",
}


class Collectives(torch.distributed.ProcessGroup):
    """The collectives; `HaloProcessGroup` adds messages and the group's life."""

    _rank: int
    _world: int

    @abstractmethod
    def _collect(
        self, name: str, operation: Operation, result: Any, *, caller_waits: bool, timeout: timedelta = timedelta(0)
    ) -> HaloWork:
        """Runs an operation in its turn."""

    @abstractmethod
    def _not_offered(self, what: str, instead: str) -> UsageError:
        """The error for what halo cannot do."""

    def _issue(self, name: str, opts: Any, operation: Operation, result: Any) -> HaloWork:
        timeout = getattr(opts, "timeout", timedelta(0))
        if timeout <= timedelta(0):
            # PyTorch's way to say: the group's.
            return self._collect(name, operation, result, caller_waits=not getattr(opts, "asyncOp", True))
        return self._collect(name, operation, result, caller_waits=False, timeout=timeout)

    def _reduction(self, opts: Any) -> str:
        if opts is None:
            return "sum"
        op = opts.reduceOp.op
        name = _REDUCTIONS.get(op)
        if name is None:
            raise self._not_offered(f"the reduction {op.name}", "use SUM, PRODUCT, MIN, MAX or AVG")
        return name

    # Reductions.

    def allreduce(self, tensors: Tensors, opts: Any = None) -> HaloWork:
        tensor, op = only(tensors, "all_reduce"), self._reduction(opts)
        staged = on_host(tensor)

        def operation(communicator: Communicator) -> None:
            give_back(communicator.all_reduce(staged, op), tensor)

        return self._issue("all_reduce", opts, operation, [tensor])

    def allreduce_coalesced(self, tensors: Tensors, opts: Any = None) -> HaloWork:
        """One all-reduce for all tensors of a type."""
        op = self._reduction(opts)
        by_type: dict[torch.dtype, list[torch.Tensor]] = collections.defaultdict(list)
        for tensor in tensors:
            by_type[tensor.dtype].append(tensor)
        joined = [(torch.cat([on_host(t).flatten() for t in group]), group) for group in by_type.values()]

        def operation(communicator: Communicator) -> None:
            for flat, group in joined:
                communicator.all_reduce(flat, op)
                for part, tensor in zip(flat.split([t.numel() for t in group]), group, strict=True):
                    give_back(part, tensor)

        return self._issue("all_reduce_coalesced", opts, operation, list(tensors))

    def reduce(self, tensors: Tensors, opts: Any) -> HaloWork:
        tensor, op, root = only(tensors, "reduce"), self._reduction(opts), opts.rootRank
        source = on_host(tensor)

        def operation(communicator: Communicator) -> None:
            if self._rank == root:
                give_back(communicator.reduce(source, op, out=torch.empty_like(source), root=root), tensor)
            else:
                communicator.reduce(source, op, root=root)

        return self._issue("reduce", opts, operation, [tensor])

    def reduce_scatter(self, output_tensors: Tensors, input_tensors: Sequence[Tensors], opts: Any = None) -> HaloWork:
        output, inputs = only(output_tensors, "reduce_scatter"), only(input_tensors, "reduce_scatter")
        alike("reduce_scatter", inputs, self._world, output, "input_list")
        return self._reduce_scatter("reduce_scatter", output, torch.cat([on_host(t).flatten() for t in inputs]), opts)

    def reduce_scatter_single(self, output: torch.Tensor, input: torch.Tensor, opts: Any = None) -> HaloWork:
        multiple("reduce_scatter_tensor", input, output, self._world, "input")
        return self._reduce_scatter("reduce_scatter_tensor", output, on_host(input), opts)

    _reduce_scatter_base = reduce_scatter_single

    def reduce_scatter_single_coalesced(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> JoinedWork:
        pairs = zip(outputs, inputs, strict=True)
        return JoinedWork([self.reduce_scatter_single(output, input, opts) for output, input in pairs])

    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced

    def _reduce_scatter(self, name: str, output: torch.Tensor, source: torch.Tensor, opts: Any) -> HaloWork:
        op, place = self._reduction(opts), place_for(output)

        def operation(communicator: Communicator) -> None:
            give_back(communicator.reduce_scatter(source, op, out=place), output)

        return self._issue(name, opts, operation, [output])

    # Everybody's data to everybody.

    def allgather(self, output_tensors: Sequence[Tensors], input_tensors: Tensors, opts: Any = None) -> HaloWork:
        outputs, tensor = only(output_tensors, "all_gather"), only(input_tensors, "all_gather")
        alike("all_gather", outputs, self._world, tensor, "tensor_list")
        source = on_host(tensor)

        def operation(communicator: Communicator) -> None:
            blocks = communicator.all_gather(source, out=source.new_empty((self._world, *source.shape)))
            for block, output in zip(blocks, outputs, strict=True):
                give_back(block, output)

        return self._issue("all_gather", opts, operation, [list(outputs)])

    def all_gather_single(self, output: torch.Tensor, input: torch.Tensor, opts: Any = None) -> HaloWork:
        multiple("all_gather_into_tensor", output, input, self._world, "output")
        source, place = on_host(input), place_for(output)

        def operation(communicator: Communicator) -> None:
            give_back(communicator.all_gather(source, out=place), output)

        return self._issue("all_gather_into_tensor", opts, operation, [output])

    _allgather_base = all_gather_single

    def all_gather_single_coalesced(self, outputs: Tensors, inputs: Tensors, opts: Any = None) -> JoinedWork:
        pairs = zip(outputs, inputs, strict=True)
        return JoinedWork([self.all_gather_single(output, input, opts) for output, input in pairs])

    allgather_into_tensor_coalesced = all_gather_single_coalesced

    def allgather_coalesced(self, output_lists: Sequence[Tensors], inputs: Tensors, opts: Any = None) -> JoinedWork:
        """``output_lists[r][i]`` becomes rank r's ``inputs[i]``."""
        each = [[outputs[place] for outputs in output_lists] for place in range(len(inputs))]
        return JoinedWork([self.allgather([to], [tensor], opts) for to, tensor in zip(each, inputs, strict=True)])

    # One rank's data to all, all ranks' to one.

    def broadcast(self, tensors: Tensors, opts: Any) -> HaloWork:
        tensor, root = only(tensors, "broadcast"), opts.rootRank
        staged = on_host(tensor) if self._rank == root else place_for(tensor)

        def operation(communicator: Communicator) -> None:
            communicator.broadcast(staged, root=root)
            if self._rank != root:
                give_back(staged, tensor)

        return self._issue("broadcast", opts, operation, [tensor])

    def gather(self, output_tensors: Sequence[Tensors], input_tensors: Tensors, opts: Any) -> HaloWork:
        tensor, root = only(input_tensors, "gather"), opts.rootRank
        outputs = list(only(output_tensors, "gather")) if self._rank == root else []
        if self._rank == root:
            alike("gather", outputs, self._world, tensor, "gather_list")
        source = on_host(tensor)

        def operation(communicator: Communicator) -> None:
            if self._rank != root:
                communicator.gather(source, root=root)
                return
            blocks = communicator.gather(source, out=source.new_empty((self._world, *source.shape)), root=root)
            for block, output in zip(blocks, outputs, strict=True):
                give_back(block, output)

        return self._issue("gather", opts, operation, [outputs])

    def scatter(self, output_tensors: Tensors, input_tensors: Sequence[Tensors], opts: Any) -> HaloWork:
        output, root = only(output_tensors, "scatter"), opts.rootRank
        source, place = None, place_for(output)
        if self._rank == root:
            inputs = only(input_tensors, "scatter")
            alike("scatter", inputs, self._world, output, "scatter_list")
            source = torch.cat([on_host(tensor).flatten() for tensor in inputs])

        def operation(communicator: Communicator) -> None:
            give_back(communicator.scatter(source, out=place, root=root), output)

        return self._issue("scatter", opts, operation, [output])

    # A block from every rank to every rank.

    def alltoall(self, output_tensors: Tensors, input_tensors: Tensors, opts: Any = None) -> HaloWork:
        one_each("all_to_all", output_tensors, self._world, "output_tensor_list")
        one_each("all_to_all", input_tensors, self._world, "input_tensor_list")
        source = torch.cat([on_host(tensor).flatten() for tensor in input_tensors])
        counts, into = ([tensor.numel() for tensor in tensors] for tensors in (input_tensors, output_tensors))
        place = torch.empty(sum(into), dtype=output_tensors[0].dtype)

        def operation(communicator: Communicator) -> None:
            communicator.all_to_all(source, out=place, counts=counts, out_counts=into)
            for block, tensor in zip(place.split(into), output_tensors, strict=True):
                give_back(block, tensor)

        return self._issue("all_to_all", opts, operation, list(output_tensors))

    def all_to_all_single(
        self,
        output: torch.Tensor,
        input: torch.Tensor,
        output_split_sizes: Sequence[int],
        input_split_sizes: Sequence[int],
        opts: Any = None,
    ) -> HaloWork:
        source, place = on_host(input), place_for(output)
        counts = split_counts("all_to_all_single", input, input_split_sizes, self._world, "input")
        into = split_counts("all_to_all_single", output, output_split_sizes, self._world, "output")
        # Ranks that split unequally cannot tell whether all others do, so that those who may say so always do.
        equal = not (input_split_sizes or output_split_sizes)

        def operation(communicator: Communicator) -> None:
            if equal:
                communicator.all_to_all(source, out=place)
            else:
                communicator.all_to_all(source, out=place, counts=counts, out_counts=into)
            give_back(place, output)

        return self._issue("all_to_all_single", opts, operation, [output])

    alltoall_base = all_to_all_single

    # No data at all.

    def barrier(self, opts: Any = None) -> HaloWork:
        return self._issue("barrier", opts, lambda communicator: communicator.barrier(), [])
